/** Numbers that several threads work on. */

/** A copy in memory that threads share. */
export function inSharedMemory(values: Float32Array): Float32Array {
  const shared = new Float32Array(new SharedArrayBuffer(values.byteLength))
  shared.set(values)
  return shared
}
