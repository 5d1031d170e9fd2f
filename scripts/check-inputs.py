"""Writes random tables with the reference writers (pyarrow, DuckDB, NumPy), reads them back through vecsnap, and compares.

    npm run build && python3 scripts/check-inputs.py [--tables 200] [--seed 1] [--keep DIRECTORY]

The packages are installed into a virtual environment in .cache. Each table is written in a form of its own: writer, container,
compression, types of columns. With --keep, a few small files and what they hold are written to a directory, which is how
test/fixtures/inputs/reference was made.
"""

import argparse
import base64
import datetime
import decimal
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / ".cache" / "check-inputs"
PACKAGES = ["numpy==2.4.6", "pyarrow==26.0.1", "duckdb==2.0.1"]

if pathlib.Path(sys.prefix) != VENV:
    python = VENV / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", VENV], check=True)
        subprocess.run([VENV / "bin" / "pip", "install", "--quiet", *PACKAGES], check=True)
    os.execv(python, [str(python), __file__, *sys.argv[1:]])

import duckdb  # noqa: E402
import numpy as np  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.feather  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


# ---- What vecsnap makes of a value --------------------------------------------------------------------------------


def fraction(rest, per_second):
    return "" if rest == 0 else "." + str(rest).zfill(len(str(per_second)) - 1).rstrip("0")


def clock(count, per_second):
    seconds, rest = divmod(count, per_second)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{fraction(rest, per_second)}"


def date(days):
    return (datetime.date(1970, 1, 1) + datetime.timedelta(days=days)).isoformat()


def timestamp(count, per_second, zone):
    days, rest = divmod(count, 86400 * per_second)
    return f"{date(days)}T{clock(rest, per_second)}{zone}"


def interval(months, days, nanos):
    sign, size = ("-", -nanos) if nanos < 0 else ("", nanos)
    time = f"{sign}{size // 10**9}{fraction(size % 10**9, 10**9)}"
    head = (f"{months}M" if months else "") + (f"{days}D" if days else "")
    return f"P{head}" if head and nanos == 0 else f"P{head}T{time}S"


def exact(value):
    """A decimal: a number where 15 digits hold it, else its text."""
    sign, digits, exponent = value.as_tuple()
    if exponent == 0:
        return int(value)
    return float(value) if len("".join(map(str, digits)).lstrip("0")) <= 15 else f"{value:f}"


def plain(scalar):
    """A value of Arrow as vecsnap puts it into a payload."""
    kind = scalar.type
    if not scalar.is_valid:
        return None
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return scalar.as_py()
    if pa.types.is_timestamp(kind):
        return timestamp(scalar.value, PER_SECOND[kind.unit], "Z" if kind.tz else "")
    if pa.types.is_date(kind):
        return scalar.as_py().isoformat()
    if pa.types.is_time(kind):
        return clock(scalar.value, PER_SECOND[kind.unit])
    if pa.types.is_interval(kind):
        value = scalar.as_py()
        return interval(value.months, value.days, value.nanoseconds)
    if pa.types.is_decimal(kind):
        return exact(scalar.as_py())
    if pa.types.is_map(kind):
        entries = [(plain(item["key"]), plain(item["value"])) for item in scalar.values]
        keys = [key for key, _ in entries]
        if all(isinstance(key, str) for key in keys) and len(set(keys)) == len(keys):
            return dict(entries)
        return [{"key": key, "value": value} for key, value in entries]
    if pa.types.is_struct(kind):
        return {field.name: plain(scalar[field.name]) for field in kind}
    if hasattr(scalar, "values"):
        return [plain(item) for item in scalar.values]
    value = scalar.as_py()
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    if value == 0 and isinstance(value, float):
        return 0.0  # JavaScript writes no sign before it
    return value


# ---- Random tables ------------------------------------------------------------------------------------------------

TEXTS = ["", "a", "two words", "ü", "日本語", "😀 and more than twelve bytes", 'a "quoted", one', "line\nbreak", "\\", "null"]


def integers(r, bits, signed, rows):
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if signed else (0, 2**bits - 1)
    return [r.choice([low, high, 0, 1, r.randint(low, high)]) for _ in range(rows)]


def some_null(r, values):
    share = r.choice([0, 0, 0.2, 1 if r.random() < 0.05 else 0.5])
    return [None if r.random() < share else value for value in values]


def texts(r, rows):
    return [r.choice(TEXTS) + r.choice(["", str(r.randint(0, 99))]) for _ in range(rows)]


def counts(r, low, high, rows):
    return [r.randint(low, high) for _ in range(rows)]


def column(r, rows, arrow_only):
    """A column of a random type."""

    def lists(make):
        return [make(r.randint(0, 4)) for _ in range(rows)]

    def build(values, kind):
        return pa.array(some_null(r, values), kind)

    units = ["s", "ms", "us", "ns"]
    kinds = {
        "int": lambda: build(
            integers(r, bits := r.choice([8, 16, 32, 64]), signed := r.random() < 0.5, rows),
            getattr(pa, f"{'' if signed else 'u'}int{bits}")(),
        ),
        "float32": lambda: build([float(np.float32(r.gauss(0, 9))) for _ in range(rows)], pa.float32()),
        "float64": lambda: build([r.choice([r.gauss(0, 1e9), float("nan"), 0.5, -0.0]) for _ in range(rows)], pa.float64()),
        "bool": lambda: build([r.random() < 0.5 for _ in range(rows)], pa.bool_()),
        "text": lambda: build(texts(r, rows), r.choice([pa.string(), pa.large_string()])),
        "binary": lambda: build([r.randbytes(r.randint(0, 20)) for _ in range(rows)], r.choice([pa.binary(), pa.large_binary()])),
        "date": lambda: build(counts(r, -(10**5), 10**5, rows), pa.date32()),
        "timestamp": lambda: build(
            counts(r, -(2**32), 2**33, rows), pa.timestamp(unit := r.choice(units), r.choice([None, "UTC"]) if unit != "ns" else None)
        ),
        "time": lambda: r.choice(
            [
                lambda: build(counts(r, 0, 86_399_999, rows), pa.time32("ms")),
                lambda: build(counts(r, 0, 86_399_999_999, rows), pa.time64("us")),
            ]
        )(),
        "decimal": lambda: build(
            [decimal.Decimal(r.randint(-(10 ** r.randint(1, 18)), 10**18)).scaleb(-4) for _ in range(rows)], pa.decimal128(38, 4)
        ),
        "list": lambda: build(lists(lambda n: counts(r, -9, 9, n)), r.choice([pa.list_, pa.large_list])(pa.int32())),
        "texts": lambda: build(lists(lambda n: some_null(r, texts(r, n))), pa.list_(pa.string())),
        "struct": lambda: build(
            [{"a": r.randint(0, 9), "b": {"c": r.choice(TEXTS)}} for _ in range(rows)],
            pa.struct([("a", pa.int64()), ("b", pa.struct([("c", pa.string())]))]),
        ),
        "map": lambda: build(lists(lambda n: [(f"k{i}", r.randint(0, 9)) for i in range(n)]), pa.map_(pa.string(), pa.int64())),
        "dictionary": lambda: pa.DictionaryArray.from_arrays(
            pa.array(some_null(r, counts(r, 0, 2, rows)), r.choice([pa.int8(), pa.int32(), pa.int64()])), ["x", "y", "zed"]
        ),
    }
    newer = {
        "view": lambda: build(texts(r, rows), pa.string_view()),
        "binary view": lambda: build([r.randbytes(r.randint(0, 20)) for _ in range(rows)], pa.binary_view()),
        "list view": lambda: build(lists(lambda n: counts(r, -9, 9, n)), r.choice([pa.list_view, pa.large_list_view])(pa.int64())),
        "runs": lambda: pa.RunEndEncodedArray.from_arrays(
            pa.array([*range(1, rows), rows][:rows], pa.int32()), pa.array(some_null(r, texts(r, rows)), pa.string())
        ),
        "nanoseconds": lambda: build(counts(r, -(2**60), 2**60, rows), pa.timestamp("ns", "UTC")),
        "time64": lambda: build(counts(r, 0, 86_399_999_999_999, rows), pa.time64("ns")),
        "date64": lambda: build([days * 86_400_000 for days in counts(r, -(10**5), 10**5, rows)], pa.date64()),
        "interval": lambda: build(
            [pa.MonthDayNano([r.randint(-9, 9), r.randint(-9, 9), r.randint(-(10**12), 10**12)]) for _ in range(rows)],
            pa.month_day_nano_interval(),
        ),
        "wide decimal": lambda: build([decimal.Decimal(r.randint(-(10**60), 10**60)).scaleb(-3) for _ in range(rows)], pa.decimal256(76, 3)),
        "small decimal": lambda: build([decimal.Decimal(r.randint(-(10**7), 10**7)).scaleb(-2) for _ in range(rows)], pa.decimal32(9, 2)),
        "null": lambda: pa.nulls(rows),
    }
    choices = {**kinds, **newer} if arrow_only else kinds
    name = r.choice(list(choices))
    return name, choices[name]()


def vectors(r, rows, dim, arrow_only):
    values = [[float(np.float32(r.gauss(0, 1))) for _ in range(dim)] for _ in range(rows)]
    halves = arrow_only and r.random() < 0.2
    if halves:
        values = [[float(np.float16(x)) for x in vector] for vector in values]
    item = pa.float16() if halves else r.choice([pa.float32(), pa.float64()])
    kinds = [pa.list_(item), pa.large_list(item), pa.list_(item, dim)]
    if arrow_only:
        kinds += [pa.list_view(item), pa.large_list_view(item)]
    return values, pa.array(values, r.choice(kinds))


def ids(r, rows):
    if r.random() < 0.5:
        values = [r.getrandbits(56) * 64 + i - 2**61 for i in range(rows)]
        return [str(value) for value in values], pa.array(values, pa.int64())
    values = [f"{i}-{r.choice(TEXTS)}" for i in range(rows)]
    return values, pa.array(values, r.choice([pa.string(), pa.large_string()]))


def random_table(r, arrow_only):
    rows = r.choice([1, 2, 5, 20, 60])
    dim = r.choice([1, 2, 3, 8, 17])
    id_values, id_column = ids(r, rows)
    vector_values, vector_column = vectors(r, rows, dim, arrow_only)
    columns = {"id": id_column, "vector": vector_column}
    kinds = []
    for i in range(r.randint(0, 5)):
        kind, values = column(r, rows, arrow_only)
        kinds.append(kind)
        columns[f"c{i}"] = values
    table = pa.table(columns)
    payloads = []
    for row in range(rows):
        payload = {name: plain(table[name][row]) for name in table.column_names[2:]}
        payloads.append(payload or None)
    return table, {"ids": id_values, "vectors": vector_values, "payloads": payloads}, kinds


# ---- Writers ------------------------------------------------------------------------------------------------------


def in_batches(r, table, writer):
    for batch in table.to_batches(max_chunksize=r.choice([1, 7, 1000])):
        writer.write_batch(batch)


def write_arrow(r, path, table):
    form = r.choice(["file", "stream"])
    codec = r.choice([None, "lz4", "zstd"])
    options = pa.ipc.IpcWriteOptions(compression=codec)
    new = pa.ipc.new_file if form == "file" else pa.ipc.new_stream
    with pa.OSFile(str(path), "wb") as sink, new(sink, table.schema, options=options) as writer:
        in_batches(r, table, writer)
    return f"pyarrow {form} {codec}"


def write_feather(r, path, table):
    codec = r.choice(["lz4", "zstd", "uncompressed"])
    pyarrow.feather.write_feather(table, str(path), compression=codec)
    return f"pyarrow feather {codec}"


def write_parquet(r, path, table):
    codec = r.choice(["snappy", "zstd", "gzip", "none", "brotli"])
    version = r.choice(["1.0", "2.0"])
    pq.write_table(
        table, str(path), compression=codec, data_page_version=version, use_dictionary=r.random() < 0.5, row_group_size=r.choice([1, 7, 1000])
    )
    return f"pyarrow parquet {codec}, pages {version}"


def write_duckdb(r, path, table):
    codec = r.choice(["snappy", "zstd", "uncompressed"])
    connection = duckdb.connect()
    connection.register("rows_of_table", table)
    connection.execute(f"COPY (SELECT * FROM rows_of_table) TO '{path}' (FORMAT parquet, COMPRESSION {codec})")
    connection.close()
    return f"duckdb parquet {codec}"


def write_numpy(r, path, expected):
    dtype = r.choice([">f4", "<f4", "<f8", ">f8"])
    array = np.array(expected["vectors"], dtype)
    if path.suffix == ".npy":
        np.save(path, array)
        return f"numpy npy {dtype}"
    save = r.choice([np.savez, np.savez_compressed])
    save(path, vectors=array, ids=np.array(expected["ids"], "U"))
    return f"numpy {save.__name__} {dtype}"


WRITERS = [".arrow", ".feather", ".parquet", ".duckdb.parquet", ".npy", ".npz"]


def write_one(r, directory, number):
    suffix = WRITERS[number % len(WRITERS)]
    path = directory / f"{number}{suffix}"
    arrow_only = suffix in (".arrow", ".feather")
    if suffix in (".npy", ".npz"):
        _, expected, _ = random_table(r, False)
        if suffix == ".npz":
            expected["ids"] = [text.rstrip("\0") for text in expected["ids"]]
        else:
            expected["ids"] = [str(i) for i in range(len(expected["ids"]))]
        expected["payloads"] = [None] * len(expected["ids"])
        how = write_numpy(r, path, expected)
        return path, how, expected
    table, expected, kinds = random_table(r, arrow_only)
    write = {".arrow": write_arrow, ".feather": write_feather, ".parquet": write_parquet, ".duckdb.parquet": write_duckdb}[suffix]
    return path, f"{write(r, path, table)}: {', '.join(kinds)}", expected


# ---- Comparison ---------------------------------------------------------------------------------------------------


def same(a, b):
    if isinstance(a, bool) or isinstance(b, bool) or a is None or b is None:
        return a is b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def read_back(paths):
    reader = ROOT / "dist" / "scripts" / "read-inputs.js"
    asked = "\n".join(str(path) for path in paths)
    result = subprocess.run(["node", str(reader)], input=asked, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in result.stdout.splitlines()]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=pathlib.Path)
    arguments = parser.parse_args()
    r = random.Random(arguments.seed)
    with tempfile.TemporaryDirectory() as temporary:
        directory = arguments.keep or pathlib.Path(temporary)
        directory.mkdir(parents=True, exist_ok=True)
        written = [write_one(r, directory, number) for number in range(arguments.tables)]
        found = read_back([path for path, _, _ in written])
        wrong = 0
        for (path, how, expected), read in zip(written, found, strict=True):
            if same(expected, read):
                continue
            wrong += 1
            print(f"DIFFERS {path.name} ({how})\n  expected {json.dumps(expected)[:1500]}\n  read     {json.dumps(read)[:1500]}")
        if arguments.keep:
            kept = [{"file": path.name, **expected} for path, _, expected in written]
            lines = "".join(f"{json.dumps(line, ensure_ascii=False)}\n" for line in kept)
            (directory / "expected.jsonl").write_text(lines)
        forms = sorted({how.split(":")[0] for _, how, _ in written})
        rows = sum(len(expected["ids"]) for _, _, expected in written)
        print(f"{len(written)} tables, {rows} rows, seed {arguments.seed}, {len(forms)} forms of writing: {wrong} differ")
    sys.exit(1 if wrong else 0)


main()
