/** Divides a memory that is still to be made, for who fills it once: places one after the other. */

/** Of every place: a line of the processor's caches. */
const ALIGNMENT = 64

export class Places {
  /** Bytes that the memory must have. The first are nobody's: kernels may read before what they are given. */
  end = ALIGNMENT

  /** Where so many bytes begin, a multiple of 64. */
  take(bytes: number): number {
    const at = this.end
    this.end += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT
    return at
  }
}
