"""Stage configure: params.yaml -> configs/, checked before any other stage starts."""

import contextlib
import os
from pathlib import Path

from ablation.common.errors import InvalidInput, run


def main() -> None:
    from ablation.configuration.study import check_devices, check_repository, equal_settings, resolve, write_configs

    source = Path("params.yaml")
    before = source.read_bytes() if source.exists() else b""
    # git compares sizes and times in whole seconds: it misses an edit by -S within the same second, unless touched.
    with contextlib.suppress(OSError):
        os.utime(source)
    params, variants = resolve(str(source))
    check_devices(str(source), params)
    check_repository()
    write_configs(params, variants, Path("configs"))
    if source.read_bytes() != before:  # DVC reads it after the stage, and would take it for what was checked
        raise InvalidInput(f"{source}: changed while it was checked; run the same command again")
    num_runs = sum(len(variant.seeds) for variant in variants.values())
    print(f"{params.data.label}: {len(variants)} variants, {num_runs} runs")
    for names in equal_settings(variants):
        print(f"note: {' and '.join(names)} have equal settings, so their results will be equal")


if __name__ == "__main__":
    run(main)
