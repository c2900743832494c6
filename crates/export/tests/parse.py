"""Reads exports back with Python's own modules: `parse.py csv|jsonl FILE` prints one JSON value a record.

Lines are split as Python's `str.splitlines` splits them: at every character that any reader takes for a line's end.
"""
import csv
import io
import json
import sys

kind, path = sys.argv[1:]
data = open(path, "rb").read().decode("utf-8")
if kind == "csv":
    csv.field_size_limit(1 << 30)
    records = list(csv.reader(io.StringIO(data, newline=""), strict=True))
else:
    records = [json.loads(line) for line in data.splitlines()]
for record in records:
    print(json.dumps(record))
