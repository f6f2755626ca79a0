"""Stage configure: params.yaml -> configs/, checked before any other stage starts."""

import contextlib
import os
from pathlib import Path

from ablation.common.errors import run


def main() -> None:
    from ablation.configuration.study import check_devices, check_repository, equal_settings, resolve, write_configs

    # git compares times in whole seconds and sizes: an edit by -S within the same second it misses, unless touched.
    with contextlib.suppress(OSError):
        os.utime("params.yaml")
    params, variants = resolve("params.yaml")
    check_devices("params.yaml", params)
    check_repository()
    write_configs(params, variants, Path("configs"))
    num_runs = sum(len(variant.seeds) for variant in variants.values())
    print(f"{params.data.label}: {len(variants)} variants, {num_runs} runs")
    for names in equal_settings(variants):
        print(f"note: {' and '.join(names)} have equal settings, so their results will be equal")


if __name__ == "__main__":
    run(main)
