"""Real models, fetched by `./dev models NAME`, for tests of the program."""

import os
import pathlib
import unittest


def folder():
    """Returns the folder of the models, by the same rule as the program and ./dev."""
    if path := os.environ.get("CAKE_MODELS_DIR"):
        return pathlib.Path(path)
    if path := os.environ.get("CAKE_DEV_CACHE"):
        return pathlib.Path(path) / "models"
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "cake" / "models"


def real_model(name):
    """Returns the path of a model. If it is missing, skips the calling test, or fails it if CAKE_REQUIRE_MODELS names
    the model."""
    path = folder() / f"{name}.gguf"
    if path.exists():
        return path
    why = f"the model {name} is not there: ./dev models {name} fetches it"
    if name in os.environ.get("CAKE_REQUIRE_MODELS", "").split():
        raise AssertionError(why)
    raise unittest.SkipTest(why)
