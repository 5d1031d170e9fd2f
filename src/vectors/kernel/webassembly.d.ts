// The part of WebAssembly's interface that we use. TypeScript has it in its DOM library only.
declare namespace WebAssembly {
  class Module {
    constructor(code: Uint8Array)
  }
  class Memory {
    constructor(limits: { initial: number; maximum?: number; shared?: boolean })
    /** A `SharedArrayBuffer` if the memory is shared. */
    readonly buffer: ArrayBuffer
    grow(pages: number): number
  }
  class Instance {
    constructor(module: Module, imports: Record<string, Record<string, unknown>>)
    readonly exports: Record<string, unknown>
  }
  function validate(code: Uint8Array): boolean
}
