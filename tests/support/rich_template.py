"""Chat templates that write reasoning and tool calls, each in a way of its own."""

from __future__ import annotations

_CALLS = (
    "{% for call in m.tool_calls %}{{ '\n' }}<tool_call>\n"
    '{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}'
    "\n</tool_call>{% endfor %}"
)
THINKING = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if m.role == 'assistant' and (m.reasoning_content or loop.last) %}"
    "<think>\n{{ (m.reasoning_content or '').strip('\n') }}\n</think>\n\n{% endif %}"
    "{{ m.content }}{% if m.tool_calls %}" + _CALLS + "{% endif %}<|im_end|>\n{% endfor %}"
)
"""As Qwen 3: reasoning in tags, which an answer at the end has also without any; JSON calls."""

LAST_ONLY = THINKING.replace("(m.reasoning_content or loop.last)", "loop.last")
"""As many: reasoning only of the answer at the end."""

CALL_ALONE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.tool_calls %}"
    "{% set call = m.tool_calls[0].function %}"
    '{"name": "{{ call.name }}", "parameters": {{ call.arguments | tojson }}}'
    "{% else %}{{ m.content }}{% endif %}<|im_end|>\n{% endfor %}"
)
"""As Llama 3.1: one call, in the place of the content."""

TAGGED_CALLS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}<function={{ call.function.name }}>"
    "{% for key, value in call.function.arguments.items() %}"
    "<{{ key }}>{{ value if value is string else value | tojson }}</{{ key }}>{% endfor %}"
    "</function>{% endfor %}<|im_end|>\n{% endfor %}"
)
"""As Qwen 3 Coder: a tag for every argument."""
