// Compiles the AssemblyScript of the kernels to dist/src/vectors/kernel/*.wasm, which the package ships.
import asc from "assemblyscript/asc"

// A module is made either for memories that threads share or for others.
const SHARED = ["--enable", "threads", "--sharedMemory", "--maximumMemory", "65536"]

await compile("kernel", "kernel")
await compile("kernel", "kernel-shared", SHARED)
await compile("cells", "cells")
await compile("cells", "cells-shared", SHARED)

async function compile(source, target, more = []) {
  const { error, stderr } = await asc.main([
    `src/vectors/kernel/assembly/${source}.ts`,
    "--outFile",
    `dist/src/vectors/kernel/${target}.wasm`,
    "-O3",
    "--converge",
    "--noAssert",
    "--runtime",
    "stub",
    "--importMemory",
    "--enable",
    "simd",
    ...more,
  ])
  if (error !== null) {
    process.stderr.write(stderr.toString())
    process.exitCode = 1
  }
}
