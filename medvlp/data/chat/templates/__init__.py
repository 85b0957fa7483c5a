"""Chat templates that say which words are the assistant's."""

from medvlp.data.chat.templates.rendering import DATE, render, split_thought
from medvlp.data.chat.templates.selection import THOUGHTS, ChatTemplateError, chat_template, dated

__all__ = ["DATE", "THOUGHTS", "ChatTemplateError", "chat_template", "dated", "render", "split_thought"]
