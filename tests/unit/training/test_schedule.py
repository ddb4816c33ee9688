import pytest
import torch
from safetensors.torch import load_file, save_file

from service.commands.main import main
from service.errors import ConfigurationError
from service.training.schedule import mean_of


def weights(value, steps=1):
    return {"layer": torch.full((2, 3), value), "steps": torch.tensor(steps)}


def test_the_mean_is_of_each_weight_and_counts_stay_the_firsts():
    mean = mean_of([weights(1.0), weights(2.0, 7), weights(6.0)])
    assert mean["layer"].tolist() == [[3.0] * 3] * 2
    assert mean["steps"].item() == 1


@pytest.mark.parametrize("others", [[], [{"layer": torch.ones(3, 2), "steps": torch.tensor(1)}], [{}]])
def test_a_mean_is_of_two_or_more_of_one_network(others):
    with pytest.raises(ConfigurationError):
        mean_of([weights(1.0), *others])


def test_the_command_writes_half_precision(tmp_path, monkeypatch):
    for name, value in (("a", 1.0), ("b", 2.0)):
        save_file(weights(value), tmp_path / f"{name}.safetensors")
    files = [str(tmp_path / f"{name}.safetensors") for name in "ab"]
    monkeypatch.setattr("sys.argv", ["semblance", "train", "mean", *files, "--out", str(tmp_path / "m")])
    with pytest.raises(SystemExit) as ended:
        main()
    assert not ended.value.code
    mean = load_file(tmp_path / "m")["layer"]
    assert (mean.dtype, mean.unique().tolist()) == (torch.float16, [1.5])
