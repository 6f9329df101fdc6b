"""The card of an exported language model: what it answers, and the Python that asks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

LOADING = {
    "adapter": (
        "from peft import PeftModel\nfrom transformers import AutoModelForCausalLM, AutoTokenizer",
        'tokenizer = AutoTokenizer.from_pretrained(prompt["base"])\n'
        'model = AutoModelForCausalLM.from_pretrained(prompt["base"], dtype=prompt["dtype"])\n'
        "model = PeftModel.from_pretrained(model, folder).eval()\n"
        "causal = model.get_base_model()",
    ),
    "adapter, quantised": (
        "from peft import PeftModel\n"
        "from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig",
        'tokenizer = AutoTokenizer.from_pretrained(prompt["base"])\n'
        "model = AutoModelForCausalLM.from_pretrained(\n"
        '    prompt["base"],\n'
        '    dtype=prompt["dtype"],\n'
        '    quantization_config=BitsAndBytesConfig(**prompt["quantization"]),\n'
        ")\n"
        "model = PeftModel.from_pretrained(model, folder).eval()\n"
        "causal = model.get_base_model()",
    ),
    "merged": (
        "from transformers import AutoModelForCausalLM, AutoTokenizer",
        "tokenizer = AutoTokenizer.from_pretrained(folder)\n"
        'causal = AutoModelForCausalLM.from_pretrained(folder, dtype=prompt["dtype"]).eval()',
    ),
}
"""Form -> imports, and how model and tokenizer are loaded; needs bitsandbytes where it is quantised."""

ASKING = '''\
ADDED = {i: str(token) for i, token in tokenizer.added_tokens_decoder.items() if str(token).strip()}
LONGEST_FIRST = sorted((text for text in ADDED.values() if len(text) > 1), key=len, reverse=True)
IN_TEXT = re.compile("|".join(map(re.escape, LONGEST_FIRST)) or "(?!)")


def tokens(text):
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def ids_of(title):
    """A title is cut into tokens alone; a token that was added to the tokenizer never comes out."""
    text = (prompt["lead"] + title).encode("utf-8", "replace").decode("utf-8")
    ids = tokens(text)
    if not ADDED.keys().isdisjoint(ids):
        cuts = [0, *(match.start() + 1 for match in IN_TEXT.finditer(text)), len(text)]
        pieces = [text[a:b] for a, b in zip(cuts, cuts[1:]) if b > a]
        ids = [i for piece in pieces for i in tokens(piece) if i not in ADDED]
    return ids[: prompt["title_tokens"]]


def listed(history):
    """List -> its newest titles that fit, as (ids, what follows), oldest first."""
    lists = [piece for piece in prompt["pieces"] if "titles" in piece]
    found, room = {piece["titles"]: [] for piece in lists}, prompt["history_tokens"]
    most = {piece["titles"]: prompt["history"] for piece in lists}
    for piece in lists:
        beyond = sum(liked in piece["shows"] for _, liked in history) - prompt["history"]
        most[piece["titles"]] += max(0, beyond) % prompt["history_step"]
    for title, liked in reversed(history):
        for piece in lists:
            shown = found[piece["titles"]]
            if liked in piece["shows"] and len(shown) < most[piece["titles"]]:
                after = piece["after_liked" if liked else "after_disliked"]
                room -= len(ids_of(title)) + len(after) + len(piece["between"])
                if room >= 0:
                    shown.insert(0, (ids_of(title), after))
    return found


def prompt_ids(history, target):
    """Token ids of the question whether who has this history will like the title `target`."""
    ids, lists = [], listed(history)
    for piece in prompt["pieces"]:
        if "titles" in piece:
            shown = lists[piece["titles"]]
            for place, (title, after) in enumerate(shown):
                ids += (piece["between"] if place else []) + title + after
            ids += piece["empty"] if not shown else []
        elif "soft" in piece:
            ids += [SOFT] * piece["tokens"]
        else:
            ids += ids_of(target) if "target" in piece else piece["ids"]
    return ids


def score(history, target):
    """logit(Yes) - logit(No); `history` is (title, liked), oldest first.

    In single precision from the last hidden state on: in half of it close scores would be ties.
    """
    ids = torch.tensor([prompt_ids(history, target)], device=causal.device)
    answers = [prompt["answers"]["yes"], prompt["answers"]["no"]]
    head, config = causal.get_output_embeddings(), causal.config.get_text_config()
    with torch.no_grad():
        state = causal.base_model(input_ids=ids, use_cache=False).last_hidden_state[0, -1]
        logits = head.weight[answers].float() @ state.float()
        if getattr(head, "bias", None) is not None:
            logits = logits + head.bias[answers].float()
    logits = logits * (getattr(config, "logit_scale", None) or 1.0)
    logits = logits / (getattr(config, "logits_scaling", None) or 1.0)
    if cap := getattr(config, "final_logit_softcapping", None):
        logits = cap * torch.tanh(logits / cap)
    return float(logits[0] - logits[1])


def probability(history, target):
    """P(like), calibrated on the run's validation split."""
    c = prompt["calibration"]
    return 1 / (1 + math.exp(-(c["slope"] * score(history, target) + c["intercept"])))
'''

SOFT_PLACES = """\
        elif "soft" in piece:
            ids += [SOFT] * piece["tokens"]
"""

SOFT = """\
**Soft tokens.** The prompt has places for vectors, {places}, which the run's encoder and mapper
fill; neither is in this folder. Without them the answers are not the run's. `docs/serving.md` of
sasrecllm shows how `SASRecLLM.score_request` fills them for a server that takes vectors.
"""

NUMBERS = """\
The Python below holds the weights as the run did (`dtype`{bits}) and gives the run's scores: in
float32 to 0.0001 of a logit, in bfloat16 to some hundredths (layers round to three digits, and not
every program rounds in the same places).
"""

BITS = ", and 4 bits by bitsandbytes, which multiplies in bfloat16: `quantization`"


def card(form: str, prompt: Mapping[str, Any], backbone: str, answers: str) -> str:
    """The text of README.md.

    Args:
        form: ``adapter`` or ``merged``.
        prompt: what ``prompt.json`` holds.
        backbone: what the run's settings call the language model.
        answers: row of the last stage that asks the language model.
    """
    soft = [piece for piece in prompt["pieces"] if "soft" in piece]
    yes, no = prompt["answer_words"]
    quantised = prompt["quantization"] is not None
    head = [
        "---",
        *(["library_name: peft"] if form == "adapter" else ["library_name: transformers"]),
        "pipeline_tag: text-generation",
        "---",
        "",
        f"# {'LoRA adapter' if form == 'adapter' else 'Language model'} of a sasrecllm run",
        "",
        f"Row `{prompt['row']}` of the results of the run `{prompt['run']}`. Base: `{backbone}`"
        + (
            f", which lay at `{prompt['base']}` when this was written: `base` in `prompt.json` and"
            " `base_model_name_or_path` in `adapter_config.json` say where it is looked for."
            if form == "adapter"
            else ", whose licence holds for this folder too."
        ),
        "",
        NUMBERS.format(bits=BITS if quantised else ""),
        f"The model answers with its next token, `{yes}` or `{no}`; the score is the difference of"
        " their logits. What the run itself answers may weigh this score with others"
        f" (its last row that asks the language model is `{answers}`).",
        "",
        "Prompt (titles stand in the places in braces; a list names what stands between, or after, its"
        " titles, and last what stands for an empty one):",
        "",
        "```",
        prompt["words"],
        "```",
        "",
        *([SOFT.format(places=" and ".join(f"`{{{p['soft']}}}`" for p in soft))] if soft else []),
        "`prompt.json` holds it as token ids: titles and the words between them are cut into tokens"
        " each by itself, so a prompt that is tokenised as one text may differ from what was trained.",
        "",
        "```python",
        *_code(form + ", quantised" * quantised, bool(soft)),
        "```",
        "",
    ]
    return "\n".join(head)


def _code(form: str, soft: bool) -> list[str]:
    imports, loading = LOADING[form]
    asking = "SOFT = 0  # any id: vectors take these places\n\n\n" + ASKING
    if not soft:
        asking = ASKING.replace(SOFT_PLACES, "")
    return [
        "import json", "import math", "import re", "", "import torch", imports, "",
        'folder = "."  # where this file lies',
        'with open(f"{folder}/prompt.json", encoding="utf-8") as stream:',
        "    prompt = json.load(stream)",
        loading, "", "", asking.rstrip("\n"),
    ]  # fmt: skip
