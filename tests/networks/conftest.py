import importlib.util
import sys
from pathlib import Path

import pytest
import torch


@pytest.fixture(scope="session")
def published_adm():
    """The published UNetModel as azula vendors it; the rest of azula, which needs torchvision, is not imported."""
    folder = Path(importlib.util.find_spec("azula").submodule_search_locations[0]) / "plugins" / "adm" / "_src"
    for name in ("", ".nn", ".unet"):
        path = folder / (name[1:] + ".py" if name else "__init__.py")
        where = None if name else [str(folder)]
        spec = importlib.util.spec_from_file_location("published_adm" + name, path, submodule_search_locations=where)
        sys.modules[spec.name] = module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    return module.UNetModel


@pytest.fixture
def shaken():
    """Give every parameter a random value: published networks start with zeros where it matters."""

    def shake(net, seed=0):
        g = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, p in net.named_parameters():
                fan = p[0].numel() if p.dim() > 1 else 25
                p.copy_(torch.randn(p.shape, generator=g) / fan**0.5 + (p.dim() == 1 and name.endswith("weight")))
        return net.eval()

    return shake
