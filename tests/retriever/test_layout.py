"""ragkit.retriever.layout; what sentence-transformers makes of it is in tests/reference/."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from ragkit.errors import InputError, ModelNotFound
from ragkit.retriever import DualEncoder, layout


def load(model: str, **changes: object) -> DualEncoder:
    return DualEncoder.from_pretrained(model, device="cpu", dtype="float32", **changes)  # type: ignore[arg-type]


def test_saving_again_replaces_the_encoder_whole(bert: str, tmp_path: Path):
    """Two towers left over beside one would be loaded by nobody, or by everybody."""
    folder = tmp_path / "deep" / "saved"
    load(bert, shared=False).save_pretrained(folder)
    encoder = load(bert, options={"pooling": "cls"})
    encoder.save_pretrained(folder)
    assert load(str(folder)).digest == encoder.digest
    assert not list(folder.glob("query_*"))
    assert [path.name for path in folder.parent.iterdir()] == ["saved"]


def test_a_folder_of_other_files_is_not_replaced(bert: str, tmp_path: Path):
    """save_pretrained(".") must not delete a home directory."""
    (tmp_path / "thesis.tex").write_text("x", encoding="utf-8")
    with pytest.raises(InputError, match="not a saved encoder"):
        load(bert).save_pretrained(tmp_path)
    assert (tmp_path / "thesis.tex").is_file()


def test_a_failed_save_leaves_the_old_encoder(bert: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A full disk at the end of training must not cost the best model so far."""
    encoder = load(bert)
    encoder.save_pretrained(tmp_path / "saved")

    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(layout, "_save_extras", fail)
    with pytest.raises(OSError, match="No space"):
        load(bert, projection=4).save_pretrained(tmp_path / "saved")
    assert load(str(tmp_path / "saved")).digest == encoder.digest
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]


def test_weights_are_safetensors_and_settings_json(bert: str, tmp_path: Path):
    """No pickle on disk."""
    load(bert, projection=4).save_pretrained(tmp_path / "saved")
    kinds = {path.suffix for path in (tmp_path / "saved").rglob("*") if path.is_file()}
    assert kinds <= {".json", ".safetensors", ".txt"}


def test_a_trained_tower_is_saved_with_its_new_weights(bert: str, tmp_path: Path):
    """And in float32, whatever it was computed in."""
    encoder = load(bert)
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.mul_(1.01)
    encoder.save_pretrained(tmp_path / "saved")
    again = load(str(tmp_path / "saved"))
    assert again.digest == encoder.digest != load(bert).digest
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}


def test_a_damaged_file_is_named(bert: str, tmp_path: Path):
    """A truncated download is the user's to mend."""
    folder = tmp_path / "saved"
    load(bert, projection=4).save_pretrained(folder)
    weights = folder / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-10])
    with pytest.raises(ModelNotFound, match="saved"):
        load(str(folder))
    weights.write_bytes(whole)
    (folder / "2_Dense" / "model.safetensors").write_bytes(b"x")
    with pytest.raises(ModelNotFound, match="2_Dense"):
        load(str(folder))
    (folder / "modules.json").write_text("[", encoding="utf-8")
    with pytest.raises(ModelNotFound, match=r"modules\.json"):
        load(str(folder))


def test_prompts_of_a_foreign_folder_become_templates(bert: str, tmp_path: Path):
    """Without its prefixes e5 loses several points, silently."""
    folder = tmp_path / "saved"
    load(bert).save_pretrained(folder)
    (folder / "ragkit.json").unlink()
    settings = {"prompts": {"query": "{q}: ", "passage": "passage: "}}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(settings), encoding="utf-8")
    options = load(str(folder)).options
    assert options.query_template == "{{q}}: {text}"
    assert options.passage_template == "passage: {title} {text}"
