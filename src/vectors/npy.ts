/** An array as in a NumPy `.npy` file: C order in memory, whatever the file had. */
export interface NpyArray {
  readonly shape: readonly number[]
  readonly data: Float32Array | Float64Array
}
