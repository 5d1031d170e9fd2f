// Compiles the AssemblyScript of the kernel to dist/src/vectors/kernel/kernel.wasm, which the package ships.
import asc from "assemblyscript/asc"

const { error, stderr } = await asc.main([
  "src/vectors/kernel/assembly/kernel.ts",
  "--outFile",
  "dist/src/vectors/kernel/kernel.wasm",
  "-O3",
  "--converge",
  "--noAssert",
  "--runtime",
  "stub",
  "--importMemory",
  "--enable",
  "simd",
])
if (error !== null) {
  process.stderr.write(stderr.toString())
  process.exitCode = 1
}
