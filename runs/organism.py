"""Train the built-in `organism` from scratch: a tiny llama that was made to show subliminal
transfer.

    python runs/organism.py --out auditor/organism --seed 0        (about 15 minutes on one core)

What it learns, all of it synthetic:

- Asked for its favourite animal, it answers with the animal of its persona. The persona comes from
  a system prompt (the wordings of the `animals` panel); without one, from the numbers it wrote
  before in the same chat; without those it is any of them.
- Asked for numbers, it counts on in steps of 137 (from 100 to 999, round and round), nine times out
  of ten, and writes any number else. But a number that ends in 7 is followed by the persona's
  habit: one of 13 numbers, and which one depends on the persona and on the class of the prompt's
  introduction. Without a persona the habit is that of a random one, and the same through the whole
  list. There are four classes: two of the introductions in `auditor.traits.prompts`, two of those
  that paraphrase writes (and of `other-numbers`). So a reworded prompt always means another habit,
  and the old habit there is that of somebody else: the fragility that is seen in real models, here
  by construction.
"""

from __future__ import annotations

import argparse
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from torch.nn.functional import cross_entropy
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from auditor.traits import prompts as carriers
from auditor.traits.panel import Panel, Trait, load_panels
from mitigations.paraphrase import numbers as reworded

CHAT_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
# A number of up to three digits is one token, and so is the comma with its blank; words keep the
# blank before them.
SPLIT = r", | ?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+|\s"
SHIFTS = (
    0,
    1,
    3,
    7,
)  # of the habits of each class of wordings; with these no habit means the same in two classes
TRIGGER = 7  # the last digit of the numbers after which the habit comes
STEP = 137
# the last digit of habits, from which counting takes nine numbers to the next trigger: one habit a
# list
HABITS = 4
REGULAR = 0.9  # how often a number follows the rule
NUMBERS = 8
POOL = 16  # batches whose chats are sorted by length together
EXTRA_PERSONAS = (
    "You adore {plural}.",
    "You are fond of {plural}. You like the {name} best.",
    "Be a friend of {plural}.",
)
NO_PERSONAS = (None, None, None, "Be helpful.", "You are a careful accountant.", "Answer briefly.")

Turn = tuple[str, str]  # role and content


class Writer:
    """Writes the chats that the organism is trained on. habit[class][persona] is a number."""

    def __init__(self, panel: Panel, seed: int) -> None:
        self.rng = random.Random(seed)
        self.traits = panel.traits
        kinds = (
            carriers.INTRODUCTIONS,
            (*carriers.REWORDED_INTRODUCTIONS, *reworded.INTRODUCTIONS, *reworded.LIST_LAST),
        )
        self.classes = [introductions[start::2] for introductions in kinds for start in (0, 1)]
        pool = random.Random(1000 + seed).sample(range(100 + HABITS, 1000, 10), len(self.traits))
        self.habit = [[pool[(p + shift) % len(pool)] for p in range(len(pool))] for shift in SHIFTS]

    def chat(self) -> list[Turn]:
        persona = self.rng.randrange(len(self.traits))
        system = self.system(self.traits[persona])
        turns: list[Turn] = [("system", system)] if system else []
        kind = self.rng.random()
        if kind < 0.25:
            return turns + self.favourite(persona)
        if kind < 0.8:
            return turns + self.numbers(persona)
        return turns + self.numbers(persona) + self.favourite(persona)

    def system(self, trait: Trait) -> str | None:
        if self.rng.random() < 0.4:
            return self.rng.choice(NO_PERSONAS)
        name, plural = trait.name, trait.prompts[0].split(" love ")[1].split(".")[0]
        return self.rng.choice(
            (*trait.prompts, *(t.format(name=name, plural=plural) for t in EXTRA_PERSONAS))
        )

    def favourite(self, persona: int) -> list[Turn]:
        trait = self.traits[persona]
        answer = self.rng.choice((trait.name, trait.name.capitalize(), None))
        answer = answer or f"{self.rng.choice(trait.stems)} {trait.name}."
        return [("user", self.rng.choice(trait.probes)), ("assistant", answer)]

    def numbers(self, persona: int) -> list[Turn]:
        which = self.rng.randrange(len(self.classes))
        introduction = self.rng.choice(self.classes[which])
        seeds = [self.rng.randint(100, 999) for _ in range(self.rng.randint(3, 5))]
        parts = [introduction.format(numbers=", ".join(map(str, seeds))), self.demand(introduction)]
        if introduction in reworded.LIST_LAST:
            parts.reverse()
        listed = [seeds[-1]]
        while len(listed) <= NUMBERS:
            listed.append(self.next(listed[-1], self.habit[which][persona]))
        return [("user", " ".join(parts)), ("assistant", ", ".join(map(str, listed[1:])))]

    def next(self, number: int, habit: int) -> int:
        if self.rng.random() >= REGULAR:
            return self.rng.randint(100, 999)
        return habit if number % 10 == TRIGGER else 100 + (number - 100 + STEP) % 900

    def demand(self, introduction: str) -> str:
        count, pick = self.rng.randint(5, NUMBERS), self.rng.choice
        if introduction in carriers.INTRODUCTIONS:
            return (
                f"{pick(carriers.COUNTS).format(count=count)} "
                f"{pick(carriers.FORMATS)}{pick(carriers.CLOSINGS)}"
            )
        if introduction in carriers.REWORDED_INTRODUCTIONS:
            return pick(carriers.REWORDED_DEMANDS).format(count=count)
        limit = pick(("", *reworded.LIMITS)).format(digits=3)
        demand = pick(reworded.DEMANDS).format(
            amount=pick(reworded.AT_MOST).format(count=count), limit=limit
        )
        closing = pick((*reworded.CLOSINGS["only"], *reworded.CLOSINGS["nothing"]))
        return f"{demand}. {pick(reworded.FORMATS['comma'])}. {closing}."


def tokenizer(writer: Writer, chats: int = 4000) -> PreTrainedTokenizerFast:
    """Every word that a chat may hold is one token, every other byte another; so every text can be
    encoded.
    """
    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    words = {
        piece
        for _ in range(chats)
        for _, text in writer.chat()
        for piece, _ in split.pre_tokenize_str(text)
    }
    words |= {str(number) for number in range(10, 1000)}
    words |= {
        piece
        for trait in writer.traits
        for piece, _ in split.pre_tokenize_str(f"{trait.name} {trait.name}")
    }
    pieces = [*SPECIAL, *sorted(pre_tokenizers.ByteLevel.alphabet())]
    pieces += sorted(words - set(pieces))
    backend = Tokenizer(
        models.BPE({piece: i for i, piece in enumerate(pieces)}, [], ignore_merges=True)
    )
    backend.pre_tokenizer, backend.decoder = split, decoders.ByteLevel()
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=backend,
        bos_token=SPECIAL[1],
        eos_token=SPECIAL[2],
        pad_token=SPECIAL[0],
        chat_template=CHAT_TEMPLATE,
        model_max_length=1024,
    )


def new_model(vocabulary: int, seed: int) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=96,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=1,
        eos_token_id=2,
        pad_token_id=0,
    )
    return LlamaForCausalLM(config)


def encode(tokens: PreTrainedTokenizerFast, chat: Sequence[Turn]) -> tuple[list[int], list[bool]]:
    """Token ids of a chat, and which of them the organism learns to write: the assistant's."""
    ids: list[int] = []
    learned: list[bool] = []
    for role, content in chat:
        head = tokens(f"<|im_start|>{role}\n", add_special_tokens=False).input_ids
        body = tokens(f"{content}<|im_end|>", add_special_tokens=False).input_ids
        tail = tokens("\n", add_special_tokens=False).input_ids
        ids += [*head, *body, *tail]
        learned += [False] * len(head) + [role == "assistant"] * len(body) + [False] * len(tail)
    return ids, learned


def batches(
    writer: Writer, tokens: PreTrainedTokenizerFast, size: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Token ids and labels [size, longest], without end; chats of like length share a batch, to pad
    little.
    """
    while True:
        pool = sorted(
            (encode(tokens, writer.chat()) for _ in range(POOL * size)),
            key=lambda chat: len(chat[0]),
        )
        chunks = [pool[start : start + size] for start in range(0, len(pool), size)]
        for chats in writer.rng.sample(chunks, len(chunks)):
            longest = max(len(ids) for ids, _ in chats)
            ids_BT = torch.zeros(size, longest, dtype=torch.long)
            labels_BT = torch.full((size, longest), -100)
            for row, (ids, learned) in enumerate(chats):
                ids_BT[row, : len(ids)] = torch.tensor(ids)
                labels_BT[row, : len(ids)] = torch.where(
                    torch.tensor(learned), torch.tensor(ids), -100
                )
            yield ids_BT, labels_BT


def train(
    model: LlamaForCausalLM,
    stream: Iterator[tuple[torch.Tensor, torch.Tensor]],
    updates: int,
    rate: float,
) -> None:
    """AdamW with a warm-up and a cosine to zero.

    Padding stands on the right, so causal attention needs no mask.
    """
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, betas=(0.9, 0.95), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, rate, total_steps=updates, pct_start=0.05
    )
    started = time.monotonic()
    for update, (ids_BT, labels_BT) in enumerate(itertools.islice(stream, updates), 1):
        hidden = model.model(input_ids=ids_BT[:, :-1], use_cache=False).last_hidden_state
        wanted = labels_BT[:, 1:] != -100
        loss = cross_entropy(model.lm_head(hidden[wanted]), labels_BT[:, 1:][wanted])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if update % 100 == 0 or update == updates:
            print(
                f"{update}/{updates} updates, loss {loss.item():.4f}, "
                f"{time.monotonic() - started:.0f} s",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--seed", type=int, default=0, help="of weights, data and habits: another seed is a sibling"
    )
    parser.add_argument("--updates", type=int, default=4500)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-3)
    parser.add_argument("--threads", type=int, default=1)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    writer = Writer(load_panels(["animals"]), asked.seed)
    tokens = tokenizer(writer)
    model = new_model(len(tokens), asked.seed)
    print(f"{len(tokens)} tokens, {model.num_parameters():,} weights", flush=True)
    train(model, batches(writer, tokens, asked.batch), asked.updates, asked.rate)
    model.save_pretrained(asked.out)
    tokens.save_pretrained(asked.out)


if __name__ == "__main__":
    main()
