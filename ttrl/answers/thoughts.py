"""What a model thinks before it answers, and what it then says."""

from __future__ import annotations

from collections.abc import Sequence

MARKS: tuple[tuple[str, str], ...] = (
    ("<think>", "</think>"),  # DeepSeek-R1, Qwen3, GLM, Olmo 3, ERNIE, MiniMax-M2, Step3, ...
    ("<mm:think>", "</mm:think>"),  # MiniMax-M3
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<ifm|think>", "</ifm|think>"),  # K2 Horizon; the next two with less reasoning effort
    ("<ifm|think_fast>", "</ifm|think_fast>"),
    ("<ifm|think_faster>", "</ifm|think_faster>"),
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A Reasoning
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss (Harmony)
    ("<|channel>", "<channel|>"),  # Gemma 4
    ("Here is my thought process:", "Here is my response:"),  # Granite 3.2
    ("Here's my thought process:", "Here's my response:"),
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # Sky-T1, OpenThinker: their system prompt
    ("◁think▷", "◁/think▷"),  # Kimi-VL
    ("<thought>", "</thought>"),
    ("<thinking>", "</thinking>"),  # as prompts ask for it, as well as the next
    ("<reasoning>", "</reasoning>"),
)
"""Beginning and end. Where no other source is named: vllm/reasoning and vllm/parser, vLLM 0.32."""


def spoken(text: str) -> str | None:
    """Return what is said after thinking; None if the thinking never ended."""
    for begin, end in MARKS:
        _, ended, said = text.rpartition(end)
        if ended:
            return said
        if begin in text:
            return None
    return text


def without_thoughts(texts: Sequence[str]) -> list[str]:
    """Return the texts of one question, those emptied that are still thinking. Where at least half
    of them end a thought that they did not begin, the prompt began it, and a text that does not end
    it is nothing but thoughts."""
    spoken_in = [text for text in texts if text.strip()]
    for begin, end in MARKS:
        ended = [end in text and begin not in text.partition(end)[0] for text in spoken_in]
        if any(ended) and sum(ended) * 2 >= len(spoken_in):
            return [text if begin in text or end in text else "" for text in texts]
    return list(texts)


def opened(prompt: str) -> str:
    """Return the mark of thinking that a prompt ends with, or an empty string."""
    end = prompt.rstrip()
    return next((begin for begin, _ in MARKS if end.endswith(begin)), "")
