"""What the Python programs of the matrix share: the values that are written, and how steps are told."""
import hashlib
import time

CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
EACH = 10  # records of a codec
LIMIT = 60  # seconds for one wait
TOO_LARGE = 1_200_000  # bytes, above the topic's max.message.bytes


def key(n):
    return b"k%d" % n


def value(codec, n):
    return b"%s %d %s" % (codec.encode(), n, b"x" * 200)


def say(step, result):
    print(f"{step}: {result}", flush=True)


def digest(read):
    """Of (offset, key, value, headers) in the order of reading."""
    h = hashlib.sha256()
    for offset, k, v, headers in read:
        h.update(b"%d %s %s" % (offset, k, v))
        for name, text in headers:
            h.update(b" %s=%s" % (name.encode(), text))
        h.update(b"\n")
    return f"{len(read)} {h.hexdigest()}"


def until(what, ok):
    """Calls ok, which waits a little itself, until it returns something."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        got = ok()
        if got:
            return got
    raise TimeoutError(what)
