"""What scores become when the image or the question is another one."""
