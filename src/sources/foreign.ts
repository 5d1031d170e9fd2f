/**
 * Formats that are known and not read: told by their names or first bytes, so that an error says what to do
 * instead.
 */

interface ForeignFormat {
  /** As it appears in a sentence. */
  readonly name: string
  readonly extensions: readonly string[]
  /** One character per byte (Latin-1). */
  readonly magic: readonly string[]
  readonly advice: string
}

const AS_NPY = "save the array with numpy.save"
const AS_PARQUET = "write it as Parquet"

const FOREIGN: readonly ForeignFormat[] = [
  {
    name: "HDF5",
    extensions: ["hdf5", "h5"],
    magic: ["\x89HDF\r\n\x1a\n"],
    advice: `${AS_NPY}(f, file["train"][:])`,
  },
  {
    name: "safetensors",
    extensions: ["safetensors"],
    magic: [],
    advice: `${AS_NPY} after safetensors.numpy.load_file`,
  },
  {
    name: "a Python pickle",
    extensions: ["pkl", "pickle", "pt", "pth"],
    magic: ["\x80\x03", "\x80\x04", "\x80\x05"],
    advice: AS_NPY,
  },
  { name: "Avro", extensions: ["avro"], magic: ["Obj\x01"], advice: AS_PARQUET },
  { name: "ORC", extensions: ["orc"], magic: ["ORC"], advice: AS_PARQUET },
  {
    name: "SQLite",
    extensions: ["sqlite", "sqlite3", "db"],
    magic: ["SQLite "],
    advice: "export its rows as JSON Lines or CSV",
  },
  { name: "a Lance file", extensions: ["lance"], magic: [], advice: AS_PARQUET },
  { name: "Excel", extensions: ["xlsx", "xls"], magic: [], advice: "save it as CSV" },
]

/** The format that is known and not read which a file has by its name, else by its first bytes. */
export function foreignFormat(fileName: string, head: Uint8Array): ForeignFormat | undefined {
  const extension = /\.([a-z0-9]+)$/i.exec(fileName)?.[1]?.toLowerCase()
  const text = Buffer.from(head).toString("latin1")
  return (
    FOREIGN.find(({ extensions }) => extension !== undefined && extensions.includes(extension)) ??
    FOREIGN.find(({ magic }) => magic.some((start) => text.startsWith(start)))
  )
}
