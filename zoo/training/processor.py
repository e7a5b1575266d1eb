"""What the processor says of itself; importing this needs no TensorFlow."""

from pathlib import Path

BFLOAT16 = frozenset({"amx_bf16", "avx512_bf16", "bf16"})  # instructions as Linux names them: two of x86, one of ARM


def read_processor_flags(path: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """The processor's instructions as Linux lists them; none on another system."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    names = {"flags", "Features"}  # of x86, of ARM
    return frozenset(flag for line in lines if line.partition("\t")[0] in names for flag in line.split()[2:])
