"""
hnswlib and faiss HNSW for bench:search; bench/native.ts starts it and says what it is asked.

One request a line, as JSON, on standard input; one answer a line on standard output. The folder that is its
argument has rows.npy, tuning.npy and measured.npy, and takes the graphs, which are built if they are not there.
"""

import json
import os
import resource
import sys
import time
from importlib.metadata import version

import faiss
import hnswlib
import numpy as np

FOLDER, THREADS, K = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
M_HNSWLIB, M_FAISS, EF_CONSTRUCTION = 16, 32, 200


def load(name):
    vectors = np.load(os.path.join(FOLDER, f"{name}.npy"))
    return np.ascontiguousarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def save(write, file):
    write(file + ".part")
    os.replace(file + ".part", file)


rows = load("rows")
queries = {name: load(name) for name in ("tuning", "measured")}
faiss.omp_set_num_threads(THREADS)


class Hnswlib:
    name = f"hnswlib {version('hnswlib')} M={M_HNSWLIB}"

    def __init__(self):
        file = os.path.join(FOLDER, "hnswlib.bin")
        self.index = hnswlib.Index(space="cosine", dim=rows.shape[1])
        if os.path.exists(file):
            self.index.load_index(file, max_elements=len(rows))
        else:
            self.index.init_index(len(rows), M=M_HNSWLIB, ef_construction=EF_CONSTRUCTION, random_seed=1)
            self.index.add_items(rows, np.arange(len(rows)), num_threads=THREADS)
            save(self.index.save_index, file)
        self.index.set_num_threads(THREADS)

    def search(self, asked, effort):
        self.index.set_ef(max(effort, K))
        return self.index.knn_query(asked, k=K, num_threads=THREADS)[0]


class Faiss:
    name = f"faiss {faiss.__version__} HNSW M={M_FAISS}"

    def __init__(self):
        file = os.path.join(FOLDER, "faiss.bin")
        if os.path.exists(file):
            self.index = faiss.read_index(file)
        else:
            self.index = faiss.IndexHNSWFlat(rows.shape[1], M_FAISS, faiss.METRIC_INNER_PRODUCT)
            self.index.hnsw.efConstruction = EF_CONSTRUCTION
            self.index.add(rows)
            save(lambda part: faiss.write_index(self.index, part), file)

    def search(self, asked, effort):
        self.index.hnsw.efSearch = max(effort, K)
        return self.index.search(asked, K)[1]


def cpu_seconds():
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def measure(peer, effort, seconds):
    """All measured queries in one batch, again and again for so long."""
    asked, count = queries["measured"], 0
    start, cpu = time.perf_counter(), cpu_seconds()
    while (taken := time.perf_counter() - start) < seconds:
        peer.search(asked, effort)
        count += len(asked)
    return {"queriesPerSecond": count / taken, "cpuMs": (cpu_seconds() - cpu) * 1000 / count}


def answer(request):
    if request["do"] == "names":
        return [peer.name for peer in peers]
    peer = peers[request["peer"]]
    if request["do"] == "find":
        return peer.search(queries[request["queries"]], request["effort"]).tolist()
    return measure(peer, request["effort"], request["seconds"])


peers = [Hnswlib(), Faiss()]
for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)
