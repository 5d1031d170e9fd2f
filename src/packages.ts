import { messageOf, unsupported } from "./errors.js"

/**
 * Runs `load`, which imports (and tries out) an optional package. If that fails, throws `Unsupported` with
 * the package to install; `user` is what needs it, "the lancedb backend".
 */
export async function withPackage<T>(
  packageName: string,
  user: string,
  load: () => T | Promise<T>,
): Promise<T> {
  try {
    return await load()
  } catch (cause) {
    const said = isBroken(cause)
      ? `which is installed but does not load here (${firstLine(messageOf(cause))}): install it anew on this system, with this Node`
      : `which could not be loaded: npm install ${packageName}`
    throw unsupported(`${user} needs the package "${packageName}", ${said}`, { package: packageName }, cause)
  }
}

/**
 * Whether the package is there, but its native part is for another Node, system or processor, or was never
 * compiled.
 */
const isBroken = (cause: unknown): boolean =>
  (cause as { readonly code?: unknown }).code === "ERR_DLOPEN_FAILED" ||
  /NODE_MODULE_VERSION|bindings file|invalid ELF|GLIBC|architecture/i.test(messageOf(cause))

const firstLine = (text: string): string => text.split("\n", 1)[0]!
