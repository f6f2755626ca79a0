"""Stage train@<variant>: the splits train and val -> runs/<variant>/{weights,metrics,timing}."""

import sys
from pathlib import Path

from ablation.common.errors import InvalidInput, run


def main() -> None:
    from ablation.training.params import VariantParams
    from ablation.training.variant import train_variant

    if len(sys.argv) != 2:
        raise InvalidInput("usage: python stages/train.py VARIANT, a name in `study` of params.yaml")
    params = VariantParams.read(f"configs/train/{sys.argv[1]}.yaml")
    train_variant(params, Path("data/splits"), Path("runs") / params.variant)


if __name__ == "__main__":
    run(main, resumable=True)
