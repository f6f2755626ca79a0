"""Stage train@<variant>: the splits train and val -> runs/<variant>/{weights,metrics,timing}."""

from pathlib import Path

from ablation.common.errors import run


def main(variant: str) -> None:
    from ablation.training.params import VariantParams
    from ablation.training.variant import train_variant

    train_variant(VariantParams.read(f"configs/train/{variant}.yaml"), Path("data/splits"), Path("runs", variant))


if __name__ == "__main__":
    run(main, "VARIANT", resumable=True)
