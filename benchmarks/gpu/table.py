"""What the GPU benchmark found, as Markdown."""

from __future__ import annotations

from typing import Any


def table(found: dict[str, Any]) -> str:
    """What was found, as Markdown."""
    steps = found["steps"]
    peak = steps.get("machine", {}).get("peak_flops", 0.0)
    lines = [
        _about(found),
        "",
        "| language model | what | rows a second | tokens a second | TFLOP/s | share of the peak"
        " | device memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, step in steps.items():
        for what, row in step.items():
            if isinstance(row, dict) and "rows_per_second" in row:
                lines.append(_row(name, what, row, peak))
    lines.append("")
    for name, step in steps.items():
        if said := _said(name, step):
            lines.append(f"- {said}")
    lines += [f"- **{name} failed**: {why}" for name, why in found["failed"].items()]
    return "\n".join(lines) + "\n"


def _about(found: dict[str, Any]) -> str:
    """One line: what was measured on, and what the shares are shares of."""
    about, packages = found["steps"].get("machine", {}), found["versions"]
    said = [about.get("name", "device unknown"), found["date"][:10], f"seed {found['seed']}"]
    named = [p for p in ("torch", "transformers", "peft", "bitsandbytes") if p in packages]
    said += [f"{package} {packages[package]}" for package in named]
    if found["commit"]:
        said.append(f"commit {found['commit'][:7]}")
    line = ", ".join(said) + "."
    if about:
        line += (
            f" Matrix peak in bf16: {about['peak_flops'] / 1e12:.1f} TFLOP/s (products of"
            f" {about['matrix']}², the best of five); copies of its memory:"
            f" {about['bytes_per_second'] / 1e12:.2f} TB/s, read and written."
        )
    return line + (" **Tiny: a trial of the script.**" if found["tiny"] else "")


def _said(name: str, step: dict[str, Any]) -> str:
    if name == "weights":
        sizes = ", ".join(f"{shape} {count:,}" for shape, count in step["parameters"].items())
        return f"parameters: {sizes}; {step['wall']:.0f} s"
    if "weights_bytes" in step:
        return f"{name}: frozen weights {step['weights_bytes'] / 2**20:,.0f} MB; {step['wall']:.0f} s"
    if name == "recipe":
        same = "as in the paper" if step["trained"] == step["wanted"] else f"paper {step['wanted']:,}"
        return (
            f"the paper's recipe on the known world: {step['trained']:,} trained parameters ({same}),"
            f" steps {step['steps']}; {step['seconds']:.0f} s"
        )
    if name == "torchrun":
        return f"torchrun with one process, a whole tiny run: {step['seconds']:.0f} s"
    return ""


def _row(name: str, what: str, row: dict[str, float], peak: float) -> str:
    said = {"reading": "scoring with soft tokens", "rerank": "reranking 100 candidates"}.get(what, what)
    if "seconds" in row:
        said += f": {row['seconds'] * 1e3:.1f} ms"
    cells = [name, said, f"{row['rows_per_second']:,.0f}", "", "", "", ""]
    if row.get("peak_bytes"):
        cells[6] = f"{row['peak_bytes'] / 2**30:.1f} GiB"
    if "flops" in row:
        cells[3] = f"{row['tokens_per_second']:,.0f}"
        cells[4] = f"{row['flops'] / 1e12:.1f}"
        cells[5] = f"{row['flops'] / peak:.0%}" if peak else ""
    return "| " + " | ".join(cells) + " |"
