"""A chat template for messages whose contents are lists of parts, and without a date, as transformers and servers call it."""

from medvlp.data.chat.templates import DATE

JOIN_PARTS = """\
{%- set joined = namespace(turns=[], text='', after='') -%}
{%- for message in messages -%}
{%- if message['content'] is string -%}
{%- set joined.turns = joined.turns + [message] -%}
{%- else -%}
{%- set joined.text = '' -%}
{%- set joined.after = '' -%}
{%- for part in message['content'] -%}
{%- if part['type'] == 'text' -%}
{%- set joined.text = joined.text + ('\n' if joined.after == 'image' else '') + part['text'] -%}
{%- elif part['type'] in ('image', 'image_url') -%}
{%- set joined.text = joined.text + ('\n' if joined.after else '') + '<image>' -%}
{%- else -%}
{{ raise_exception('a part of type ' + part['type'] + ': this model takes text and images') }}
{%- endif -%}
{%- set joined.after = 'text' if part['type'] == 'text' else 'image' -%}
{%- endfor -%}
{%- set joined.turns = joined.turns + [{'role': message['role'], 'content': joined.text}] -%}
{%- endif -%}
{%- endfor -%}
{%- set messages = joined.turns -%}
"""
"""Text parts are joined as they are; a newline stands between an image and its neighbours, as in training."""


def parts_template(template: str) -> str:
    """The template trained with, made to take contents that are lists of parts, as LLaVA's own do.

    Contents that are strings render as before. A date that the template asks for is the one trained with.
    """
    date = "{%- set date_string = '" + DATE + "' -%}\n" if "date_string" in template else ""
    return JOIN_PARTS + date + template
