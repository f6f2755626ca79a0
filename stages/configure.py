"""Stage configure: params.yaml -> configs/, checked before any other stage starts."""

import contextlib
import os
from pathlib import Path

from ablation.common.errors import InvalidInput, run


def main() -> None:
    from ablation.configuration import study

    source = Path("params.yaml")
    before = source.read_bytes() if source.exists() else b""
    # git compares sizes and times in whole seconds: it misses an edit by -S within the same second, unless touched.
    with contextlib.suppress(OSError):
        os.utime(source)
    params, variants = study.resolve(str(source))
    study.check_devices(str(source), params)
    study.check_repository()
    study.write_configs(params, variants, Path("configs"))
    if source.read_bytes() != before:  # DVC reads it after the stage, and would take it for what was checked
        raise InvalidInput(f"{source}: changed while it was checked; run the same command again")
    num_runs = sum(len(variant.seeds) for variant in variants.values())
    print(f"{params.data.label}: {len(variants)} variants, {num_runs} runs")
    for name, near in study.misspelt_variants(params).items():
        print(f"note: variants.{name} is not in study, so it is not trained; did you mean {near}?")
    for names in study.equal_settings(variants):
        print(f"note: {' and '.join(names)} have equal settings, so their results will be equal")


if __name__ == "__main__":
    run(main)
