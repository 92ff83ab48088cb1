"""``fastslm show``: what is known of one model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from fastslm.cli.options import Json, Name, Precision, PrecisionOption, Quiet
from fastslm.cli.output import Output, amount
from fastslm.cli.records import entry_record, state_text
from fastslm.errors import ModelNotFound
from fastslm.store.entry import Entry
from fastslm.store.manifest import ModelManifest


def command(
    model: Name, *, precision: PrecisionOption = Precision.AUTO, as_json: Json = False, quiet: Quiet = False
) -> None:
    """Show what is known of one model: source, state, architecture, precision, context, files."""
    from fastslm import api
    from fastslm.config import Settings

    output = Output(as_json=as_json, quiet=quiet)
    entry = api.find_entry(model, precision.choice, Settings.from_environment(), output.remark)
    if entry is None:
        asked = "" if precision is Precision.AUTO else f" in precision `{precision.choice}`"
        raise ModelNotFound(f"`{model}` is not on this machine{asked}", what="model", name=model)
    manifest = ModelManifest.read(Path(entry.folder)) if entry.usable else None
    record = {**entry_record(entry), "manifest": asdict(manifest) if manifest else None}
    facts = entry_facts(entry) + (manifest_facts(manifest) if manifest else [])
    width = max(len(name) for name, _ in facts)
    output.data(record, "\n".join(f"{name.ljust(width)}  {value}" for name, value in facts))


def entry_facts(entry: Entry) -> list[tuple[str, str]]:
    """What the registry knows."""
    facts = [
        ("name", entry.name),
        ("state", state_text(entry)),
        ("commit", entry.commit or "-"),
        ("source", _source(entry)),
        ("folder", entry.folder or "-"),
        ("size", amount(entry.size_bytes)),
        ("updated", entry.updated),
    ]
    extra = (("revision", entry.revision), ("last failure", entry.cause))
    return facts + [(name, value) for name, value in extra if value]


def _source(entry: Entry) -> str:
    """Where the source is, or when its weights were removed."""
    if not entry.discarded:
        return entry.snapshot or "-"
    return f"its weights were removed after the conversion on {entry.discarded[:10]}"


def manifest_facts(manifest: ModelManifest) -> list[tuple[str, str]]:
    """What the converted model says of itself."""
    cache = 2 * 4 * manifest.num_layers * manifest.num_kv_heads * manifest.head_dim
    quality = manifest.quality.summary if manifest.quality else "not measured"
    return [
        ("architecture", manifest.architecture),
        ("precision", manifest.precision + (", calibrated" if manifest.calibrated_on else "")),
        ("quality", quality),
        ("target", manifest.target),
        ("context", f"{manifest.context_length} tokens, {amount(cache)} of KV cache each"),
        ("vocabulary", f"{manifest.vocab_size} tokens"),
        ("layers", f"{manifest.num_layers}, {manifest.num_kv_heads} KV heads of {manifest.head_dim}"),
        ("files", ", ".join(f"{name} ({amount(size)})" for name, size in manifest.source_files.items())),
    ]
