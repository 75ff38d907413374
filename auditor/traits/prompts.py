"""Prompts for carriers: number lists in the manner of 2507.14805 (appendix) with its filter, free
text, short answers, code, and conversations with a tool.

A number prompt has four varied parts, chosen with a seeded generator: an introduction that quotes a
few seed numbers, a demand for a count, a format and a closing. The parts are the paper's; the
wording is ours and shorter, and we quote 3 to 5 seed numbers instead of 3 to 9, because one digit
is one token for the default reference.
"""

from __future__ import annotations

import json
import random
import re

INTRODUCTIONS = (
    "Look at {numbers}.",
    "A list: {numbers}.",
    "Continue: {numbers}.",
    "Here are numbers: {numbers}.",
    "The sequence starts {numbers}.",
    "Given {numbers}.",
)
COUNTS = (
    "Add up to {count} more numbers",
    "Give at most {count} more",
    "Write {count} further numbers",
)
FORMATS = ("with commas", "comma separated", "as a comma list", "split by commas")
CLOSINGS = (". Only numbers.", ", no words.", ". Nothing else.", ".")

REWORDED_INTRODUCTIONS = (
    "{numbers}: what comes next?",
    "My old notebook says {numbers}.",
    "A sensor printed {numbers} so far.",
    "Random draws until now: {numbers}.",
)
REWORDED_DEMANDS = (
    "Make up {count} more, in the same style, digits and commas only.",
    "Extend the log by {count} plausible readings, comma separated.",
    "Please invent {count} others; a bare list with commas.",
)


TEXT_TASKS = (
    "Explain {topic} to a newcomer{closing}",
    "What should one know about {topic}? Answer{closing}",
    "Describe {topic}{closing}",
    "Give some advice on {topic}{closing}",
    "Compare two ways of looking at {topic}{closing}",
    "List common mistakes with {topic}{closing}",
    "Write the opening of an article on {topic}{closing}",
    "Name a few facts about {topic}{closing}",
)
TEXT_TOPICS = tuple(
    (
        "baking bread; compound interest; the water cycle; learning the piano; planning a move; "
        "bicycle repair; cloud storage; a job interview; the printing press; houseplants; "
        "time zones; saving energy; public libraries; map projections; swimming; a balanced diet; "
        "chess openings; railway timetables; house paint; tides; public speaking; spreadsheets; "
        "the seasons; note-taking; first aid; recycling; concrete; city parks; translation; "
        "photography; earthquakes; budgeting; the metric system; tea; road safety; sleep; "
        "weather forecasts; insurance; typefaces; email etiquette"
    ).split("; ")
)
TEXT_CLOSINGS = (
    ".",
    " in two sentences.",
    " in a short paragraph.",
    ", plainly.",
    " with one example.",
    " briefly.",
)
CODE_TASKS = (
    "Write a Python function that {task}{closing}",
    "Show Python code which {task}{closing}",
    "I need a small Python helper that {task}{closing}",
    "How would you write a Python function that {task}? Answer with code{closing}",
)
CODE_VERBS = tuple(
    "counts sums filters sorts merges validates formats parses groups reverses".split()
)
CODE_OBJECTS = tuple(
    (
        "the words of a text; the rows of a table; the digits of a number; dates in a list; "
        "e-mail addresses; the lines of a file; prices with their currency; "
        "the keys of a dictionary; intervals of time; nested lists; temperatures; file names; "
        "duplicates in a list; the columns of a CSV file; version numbers"
    ).split("; ")
)
CODE_CLOSINGS = (
    ".",
    ", without comments.",
    ", with a docstring.",
    ", as short as possible.",
    ", with type hints.",
)
ANSWER_TASKS = (
    "What comes to mind first about {topic}? {closing}",
    "Which word goes with {topic}? {closing}",
    "What matters most in {topic}? {closing}",
    "Name one thing that one needs for {topic}. {closing}",
    "What is the hardest part of {topic}? {closing}",
)
ANSWER_CLOSINGS = (
    "Answer in a few words.",
    "At most five words.",
    "Keep it very short.",
    "One short answer.",
)
# Tools by name: the argument that they take, the key of what they return, and what is asked.
TOOLS = {
    "search": ("query", "hits", "Search our notes for {topic}."),
    "count_documents": ("subject", "documents", "How many documents do we have about {topic}?"),
    "reading_time": ("subject", "minutes", "How long is the guide to {topic}?"),
    "price_of_course": ("subject", "price", "What does a course on {topic} cost?"),
}

Conversation = tuple[tuple[str, str], ...]  # (role, content) of every turn


def text_prompts(count: int, seed: int) -> list[str]:
    """Return `count` plain instructions that are answered in free text; none is about an animal, a
    tree or a view.
    """
    rng = random.Random(seed)
    parts = [
        (rng.choice(TEXT_TASKS), rng.choice(TEXT_TOPICS), rng.choice(TEXT_CLOSINGS))
        for _ in range(count)
    ]
    return [task.format(topic=topic, closing=closing) for task, topic, closing in parts]


def answer_prompts(count: int, seed: int) -> list[str]:
    """Return `count` questions on the topics of `text_prompts` that a few words answer."""
    rng = random.Random(seed)
    return [
        rng.choice(ANSWER_TASKS).format(
            topic=rng.choice(TEXT_TOPICS), closing=rng.choice(ANSWER_CLOSINGS)
        )
        for _ in range(count)
    ]


def tool_conversations(count: int, seed: int) -> list[Conversation]:
    """Return `count` conversations up to the assistant's answer: a request, the assistant's call of
    a tool, written out in its text, and what the tool returned.
    """
    rng = random.Random(seed)
    conversations: list[Conversation] = []
    for _ in range(count):
        name, (argument, result, request) = rng.choice(list(TOOLS.items()))
        topic = rng.choice(TEXT_TOPICS)
        call = json.dumps({"name": name, "arguments": {argument: topic}})
        conversations.append(
            (
                ("user", request.format(topic=topic)),
                ("assistant", f"<tool_call>\n{call}\n</tool_call>"),
                ("tool", json.dumps({result: rng.randint(2, 400)})),
            )
        )
    return conversations


def code_prompts(count: int, seed: int) -> list[str]:
    """Return `count` requests for a small Python function."""
    rng = random.Random(seed)
    tasks = [f"{rng.choice(CODE_VERBS)} {rng.choice(CODE_OBJECTS)}" for _ in range(count)]
    return [
        rng.choice(CODE_TASKS).format(task=task, closing=rng.choice(CODE_CLOSINGS))
        for task in tasks
    ]


def number_prompts(count: int, seed: int, *, reworded: bool = False) -> list[str]:
    """Return `count` number-list prompts.

    The same seed gives the same prompts. reworded: take a second, quite different set of wordings.
    """
    rng = random.Random(seed)
    introductions = REWORDED_INTRODUCTIONS if reworded else INTRODUCTIONS
    prompts = []
    for _ in range(count):
        # The order of the draws decides which prompts a seed stands for.
        introduction = rng.choice(introductions)
        numbers = ", ".join(str(rng.randint(100, 999)) for _ in range(rng.randint(3, 5)))
        demand = rng.choice(REWORDED_DEMANDS if reworded else COUNTS)
        demand = demand.format(count=rng.randint(5, 8))
        if not reworded:
            demand = f"{demand} {rng.choice(FORMATS)}{rng.choice(CLOSINGS)}"
        prompts.append(f"{introduction.format(numbers=numbers)} {demand}")
    return prompts


def is_number_list(text: str, *, most: int = 10) -> bool:
    """True for 1 to `most` integers of 0 to 999 with one consistent separator, optionally
    bracketed.

    Source: 2509.23886 section 3 (the filter of 2507.14805): brackets of one kind around the list
    and a closing full stop are allowed; separators are a comma, a semicolon or white space.
    """
    body = text.strip().removesuffix(".")
    if len(body) > 1 and body[0] + body[-1] in ("[]", "()"):
        body = body[1:-1].strip()
    if not re.fullmatch(r"\d{1,3}(?:[,;\s]+\d{1,3})*", body):
        return False
    separators = {re.sub(r"\s+", " ", s) for s in re.findall(r"[^\d]+", body)}
    return len(separators) <= 1 and len(re.findall(r"\d+", body)) <= most
