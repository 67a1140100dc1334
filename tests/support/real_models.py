"""Real models for the tests of the program: those that `./dev models NAME` fetches."""

import os
import pathlib
import unittest


def folder():
    """Where they are kept; the program and ./dev have the same rule."""
    if path := os.environ.get("CAKE_MODELS_DIR"):
        return pathlib.Path(path)
    if path := os.environ.get("CAKE_DEV_CACHE"):
        return pathlib.Path(path) / "models"
    return pathlib.Path(os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache") / "cake" / "models"


def real_model(name):
    """The file of the model. Skips the calling test if it is not there, or fails it if CAKE_REQUIRE_MODELS names it."""
    path = folder() / f"{name}.gguf"
    if path.exists():
        return path
    why = f"the model {name} is not there: ./dev models {name} fetches it"
    if name in os.environ.get("CAKE_REQUIRE_MODELS", "").split():
        raise AssertionError(why)
    raise unittest.SkipTest(why)
