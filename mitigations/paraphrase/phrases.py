"""The wordings of the general rules, as data. `mitigations.paraphrase.rules` says how they are
applied.

Every alternative takes the same object as what it replaces; a verb that changes meaning with its
object has a pattern that says which objects are meant. Rather no rule than one that reads badly.
"""

from __future__ import annotations

import re

# (pattern at the head of an imperative clause, what may stand for it). The first word of the
# pattern is the verb.
# Lookaheads that say which objects a verb may have: a thing or a number of things; a noun and no
# question word; an indirect question; something of a program.
_COUNTED = (
    r"(?=(?:a|an|some|any|\d+|two|three|four|five|six|seven|eight|nine|ten|several|as many|"
    r"examples?)\b)"
)
_NOUN = (
    r"(?!(?:how|what|why|when|where|which|who|whether|if|in|to|with|about|briefly|it|them|out)\b)"
)
_CLAUSE = r"(?=(?:how|what|why|when|where|which|who|whether)\b)"
_PROGRAM = (
    r"(?=[^.]*\b(?:code|program|function|script|query|class|method|algorithm|loop|command|regex|"
    r"sql|html|css)\b)"
)

VERBS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (rf"analy[sz]e {_NOUN}", ("examine ", "take a close look at ")),
    (
        r"answer (?=(?:the|this|these) (?:following |given )?questions?\b)",
        ("give an answer to ", "respond to "),
    ),
    (r"alter ", ("change ", "modify ")),
    (rf"assess {_NOUN}", ("evaluate ", "judge ")),
    (r"brainstorm (?!with|about)", ("think up ", "come up with ")),
    (rf"build {_COUNTED}", ("construct ", "put together ")),
    (r"calculate ", ("work out ", "compute ")),
    (r"categori[sz]e ", ("classify ",)),
    (r"change ", ("alter ", "modify ")),
    (r"choose ", ("pick ", "select ")),
    (r"classify ", ("categorize ",)),
    (r"come up with ", ("think of ", "think up ")),
    (
        rf"compare (?!and )(?=[^.,]*\band\b)(?![^.]*\b(?:to|with|on|in|between|using)\b){_NOUN}",
        ("draw a comparison between ",),
    ),
    (r"complete (?=the |this )", ("finish ",)),
    (rf"compose {_COUNTED}", ("write ", "come up with ")),
    (r"compute ", ("calculate ", "work out ")),
    (rf"construct {_PROGRAM}", ("write ", "put together ")),
    (rf"construct {_COUNTED}", ("put together ", "form ")),
    (r"convert ", ("change ",)),
    (rf"craft {_COUNTED}", ("create ", "put together ")),
    (rf"create {_PROGRAM}", ("write ", "put together ")),
    (rf"create {_COUNTED}", ("come up with ", "put together ", "make ")),
    (rf"define {_NOUN}", ("give a definition of ", "state the meaning of ")),
    (rf"describe {_CLAUSE}", ("explain ", "tell me ")),
    (rf"describe {_NOUN}", ("give a description of ", "provide a description of ")),
    (
        r"determine (?=(?:if|whether|how|what|which|who|when|where) )",
        ("find out ", "work out ", "establish "),
    ),
    (r"determine (?=the |a )", ("work out ", "establish ", "find out ")),
    (rf"develop {_COUNTED}", ("work out ", "devise ")),
    (rf"devise {_COUNTED}", ("think up ", "come up with ")),
    (rf"discuss {_NOUN}", ("talk about ", "write about ")),
    (r"discuss (?=how |what |why )", ("talk about ", "write about ")),
    (rf"draft {_COUNTED}", ("write ", "draw up ")),
    (r"edit (?=the |this |these )", ("revise ", "rework ")),
    (r"elaborate on ", ("expand on ", "say more about ")),
    (rf"evaluate {_NOUN}", ("assess ", "judge ")),
    (rf"examine {_NOUN}", ("analyze ", "look closely at ")),
    (r"explain why ", ("give the reason why ", "tell me why ")),
    (rf"explain {_CLAUSE}", ("describe ", "tell me ", "make clear ")),
    (rf"explain {_NOUN}", ("give an explanation of ", "provide an explanation of ")),
    (
        r"find (?=the (?:\w+ )?(?:sum|product|area|volume|root|value|average|mean|median|mode|"
        r"difference|perimeter|derivative|integral|number|next number|maximum|minimum|length|"
        r"circumference|distance|cost|price)\b)",
        ("work out ", "determine "),
    ),
    (r"find (?!out)", ("look for ",)),
    (rf"formulate {_COUNTED}", ("devise ", "come up with ")),
    (rf"generate {_PROGRAM}", ("write ", "produce ")),
    (r"generate ", ("come up with ", "produce ", "create ")),
    (r"give me ", ("provide me with ", "let me have ")),
    (rf"give {_COUNTED}", ("provide ", "supply ")),
    (r"highlight ", ("point out ",)),
    (r"identify (?=(?:if|whether) )", ("determine ", "find out ")),
    (rf"identify {_COUNTED}", ("name ", "pick out ")),
    (r"identify ", ("point out ", "pick out ", "determine ")),
    (rf"invent {_COUNTED}", ("make up ", "think up ")),
    (r"list (?!out|of|in|\[)", ("name ", "write down ")),
    (r"make sure that ", ("ensure that ", "see to it that ")),
    (r"make sure (?=to )", ("be sure ",)),
    (r"make sure (?=you |your |the |it )", ("ensure that ", "see to it that ")),
    (rf"make up {_COUNTED}", ("invent ", "think up ")),
    (
        r"make (?=(?:a|an|\d+|two|three|some) )(?!an? (?:guess|decision|choice|prediction|"
        r"comparison|case|connection|joke|pun|argument|effort|estimate|point|difference))",
        ("create ", "put together "),
    ),
    (rf"mention {_COUNTED}", ("name ", "state ")),
    (
        r"name (?=(?:the )?(?:\d+|two|three|four|five|six|seven|eight|nine|ten|some|several|all) )",
        ("list ", "tell me "),
    ),
    (r"name (?=(?:a|an|one|the) )", ("tell me ", "give me ")),
    (r"offer (?=(?:a|an|some|\d+|two|three) )", ("give ", "provide ")),
    (rf"outline {_NOUN}", ("sketch out ", "give an outline of ")),
    (r"paraphrase ", ("reword ", "rephrase ")),
    (r"pick ", ("choose ", "select ")),
    (rf"produce {_COUNTED}", ("create ", "come up with ")),
    (r"propose ", ("suggest ", "put forward ")),
    (r"provide (?=(?:me|us) with )", ("supply ",)),
    (r"provide ", ("give ", "supply ")),
    (r"rearrange ", ("reorder ", "reorganize ")),
    (r"recommend ", ("suggest ",)),
    (r"reorder ", ("rearrange ",)),
    (r"reorgani[sz]e ", ("rearrange ",)),
    (r"rephrase ", ("reword ", "paraphrase ")),
    (r"reword ", ("rephrase ", "paraphrase ")),
    (r"select ", ("choose ", "pick ")),
    (r"specify ", ("state ", "name ")),
    (rf"state {_COUNTED}", ("name ", "give ")),
    (r"state (?=the )", ("tell me ", "give ")),
    (rf"suggest {_COUNTED}", ("propose ", "give me ")),
    (r"suggest (?!that)", ("propose ",)),
    (rf"summari[sz]e {_NOUN}", ("give a summary of ", "provide a summary of ", "sum up ")),
    (r"summari[sz]e (?=what |how |why )", ("sum up ",)),
    (r"tell me (?=(?:how|what|why|which|when|where|who|if|whether) )", ("let me know ",)),
    (r"tell me about ", ("say something about ",)),
    (rf"think of {_COUNTED}", ("come up with ", "think up ")),
    (r"transform ", ("change ", "convert ")),
    (rf"write {_PROGRAM}", ("create ", "put together ")),
    (rf"write {_COUNTED}", ("compose ", "put together ", "come up with ")),
)

# Verbs that nothing can stand for; a clause that starts with one can still be framed.
OTHER_VERBS = frozenset(
    "act adapt add advise append apply arrange assign assume break capitalize check colorize "
    "combine concatenate connect consider contrast correct count cut decide decode deduce "
    "deduplicate delete demonstrate derive design detect differentiate distinguish divide "
    "draw encode estimate expand extend extract factor fill find fix follow format give group"
    " guess help highlight implement improve indicate infer input insert interpret join judge"
    " label link look make match merge modify multiply name order organize output paint parse"
    " perform play predict prepare present print process proofread prove rank rate re-order "
    "re-write read recall redact reduce remove replace reply report research resolve respond "
    "retrieve return reverse review revise rewrite round search separate share shorten show "
    "simplify solve sort speculate split substitute subtract sum synthesize tag take train "
    "transcribe translate traverse turn use validate verify write".split()
)
# Only before one of these is a known verb taken for one: "Design thinking is ..." and "Order 66"
# are not.
OBJECTS = (
    r"(?:a|an|the|this|that|these|those|all|each|every|any|some|me|us|your|my|our|its|it|them|how|"
    r"what|why|when|where|which|who|whether|if|to|into|from|in|on|for|of|up|as|like|about|out|"
    r"through|between|following|given|one|two|three|four|five|six|seven|eight|nine|ten|\d+|"
    r"[a-z]+(?:s|ed|ing|al|ive|ic|ous|ful) )\b"
)

# {clause}: an imperative clause whose first letter was made small.
FRAMES = (
    "Please {clause}",
    "I would like you to {clause}",
    "I want you to {clause}",
    "Your task is to {clause}",
    "I need you to {clause}",
    "I am asking you to {clause}",
    "Your job is to {clause}",
)
QUESTION_FRAMES = ("Could you {clause}?", "Would you please {clause}?", "Can you {clause}?")

# {question}: a question as it stood, put behind these words.
WRAPPERS = (
    "Please answer this question: {question}",
    "Here is a question for you: {question}",
    "I have a question: {question}",
    "Help me with this question: {question}",
)
# What begins a second question within one; a rewording of the first alone would tear them apart.
_CONJUNCT = r"\b(?:and (?:how|why|what|where|when|is|are|does|do)|if|when|do you|would|could)\b"
_ONE_IDEA = rf"(?P<x>(?!(?:you|they|we|your)\b)(?:(?!,|{_CONJUNCT})[^?])+)"
# A name of up to four words: "what X is" reads badly behind a longer one.
_SHORT = (
    r"(?P<x>(?:(?!(?:that|which|used|and|of|in|to|for|between|your|the|this|an?|"
    r"it)\b)[^\s?,]+ ?){1,4})"
)

# (pattern of a whole question, what may stand for it). Groups keep their case.
QUESTIONS: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        rf"what(?: is|'s) (?=an? [^?]* (?:of|for|to|between) ){_ONE_IDEA}\?",
        ("Name {x}.", "Give me {x}."),
    ),
    (
        r"what(?: is|'s) (?P<x>(?:the|a|an) (?:(?!\b(?:that|which|is|are)\b)[^\s?,]+ ?){1,4})\?",
        ("Tell me what {x} is.",),
    ),
    (
        rf"what(?: is|'s) (?=the (?:difference|similarity|relationship|"
        rf"connection)s? ){_ONE_IDEA}\?",
        ("Explain {x}.", "Describe {x}."),
    ),
    (
        rf"what(?: is|'s) (?=the ){_ONE_IDEA}\?",
        ("State {x}.", "Tell me {x}.", "Please tell me {x}."),
    ),
    (rf"what(?: is|'s) {_SHORT}\?", ("Explain what {x} is.", "Tell me what {x} is.")),
    (
        rf"what are (?=the (?:\w+ )?(?:difference|effect|implication|consequence|"
        rf"impact)s ){_ONE_IDEA}\?",
        ("Describe {x}.", "Explain {x}."),
    ),
    (
        rf"what are (?=(?:the|some|\d+|two|three|four|five|six|ten) ){_ONE_IDEA}\?",
        ("Name {x}.", "List {x}.", "Tell me {x}."),
    ),
    (
        r"how (?P<m>can|could|should|would) (?P<x>i|you|we|one|they|people) "
        r"(?!(?:explain|describe|like|feel)\b)(?P<y>[^?,]+)\?",
        ("Explain how {x} {m} {y}.", "Tell me how {x} {m} {y}."),
    ),
    (
        r"how do (?P<x>i|you|we|one|they|people) (?!(?:feel|think|like)\b)(?P<y>[^?,]+)\?",
        ("Explain how {x} {y}.", "Tell me how {x} {y}."),
    ),
    (
        r"who (?P<m>is|was) (?P<x>[^?,]{1,60})\?",
        ("Tell me who {x} {m}.", "Please say who {x} {m}."),
    ),
)
# A request in the form of a question, or a politeness or framing: what follows is an imperative
# clause.
REQUEST = re.compile(
    r"(?:(?:can|could|will) you (?:please |kindly )?|would you (?:please|kindly) )(?=[a-z])",
    re.IGNORECASE,
)
FRAMED = re.compile(
    r"(?:(?:please|kindly),? |you (?:need|have|are asked|are required) to |you (?:must|should) |"
    r"your (?:task|job|goal) is to |i (?:want|need|would like) you to |i'd like you to )(?=[a-z])",
    re.IGNORECASE,
)

# An opening clause that may go behind its main clause, if that has no pronoun which would then come
# too early.
LEADS = re.compile(
    r"(?P<lead>(?:Using|Based on|From|For|In|With|Considering|"
    r"Given) [^,.:;?!\n]{3,80}), (?P<main>[^\n]+)"
)
PRONOUNS = re.compile(
    r"\b(?:it|its|them|their|they|this|that|these|those|he|she|his|her|one|ones|each|so|both|"
    r"such)\b",
    re.IGNORECASE,
)

_SINGULAR = (
    "sentence|text|paragraph|passage|article|poem|quote|statement|equation|story|word|phrase|"
    "list|array|question|topic|input|situation|scenario|problem|title|headline|review|speech|"
    "joke|comment|concept|term|matrix|table|data set|dataset|expression|function|claim|"
    "dialogue|conversation|email|letter|recipe|string|theme|context|image|song|input"
)
_PLURAL = (
    "sentences|words|numbers|statements|items|cities|ingredients|questions|points|options|"
    "equations|fractions|colors"
)
# (pattern, what may stand for it) anywhere before the first colon of an instruction.
PHRASES: tuple[tuple[str, tuple[str, ...]], ...] = (
    (
        rf"\bthe (?:following|given|provided) (?=(?:{_SINGULAR})\b)(?!\w+ \w+s? (?:of|in)\b)",
        ("this ",),
    ),
    (
        rf"\bthe (?:following|given|provided) (?=(?:(?:two|three|four|five|\d+) )?(?:{_PLURAL})\b)",
        ("these ",),
    ),
    (r"\bin order to\b", ("to",)),
    (r"\bdo not\b", ("don't",)),
    (r"\bdon't\b", ("do not",)),
    (r"\b(?:a|the) list of (?=\d+|two|three|four|five|six|seven|eight|nine|ten)", ("",)),
    (r"\bthe pros and cons\b", ("the advantages and disadvantages",)),
    (r"\bthe advantages and disadvantages\b", ("the pros and cons",)),
    (r"\bmake sure that\b", ("see to it that",)),
    (r"\butili[sz]e\b", ("use",)),
)

# A sentence that only says what the answer should look like; it may go before the instruction that
# it follows.
FORMAT_SENTENCE = re.compile(
    r"(?:(?:Your|The) (?:answer|response|output|reply|result) (?:should|must|has to|needs to) |"
    r"(?:Answer|Respond|Reply) (?:in|with|using|only) |Use (?:at most|no more than|at least|"
    r"fewer than|up to|bullet) )"
)
