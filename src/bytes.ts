/** Typed arrays as the bytes that they lie in. */

/** A view, no copy. */
export const bytesOf = ({ buffer, byteOffset, byteLength }: ArrayBufferView): Buffer =>
  Buffer.from(buffer, byteOffset, byteLength)

/** Whether two are equal to the bit: unlike their numbers, -0 and 0 are not, and NaN is. */
export const sameBytes = (a: ArrayBufferView, b: ArrayBufferView): boolean => bytesOf(a).equals(bytesOf(b))
