import { unsupported } from "./errors.js"

/**
 * Runs `load`, which imports (and tries out) an optional package. If that fails, throws `Unsupported` with the package to
 * install; `user` is what needs it, "the lancedb backend".
 */
export async function withPackage<T>(
  packageName: string,
  user: string,
  load: () => T | Promise<T>,
): Promise<T> {
  try {
    return await load()
  } catch (cause) {
    throw unsupported(
      `${user} needs the package "${packageName}", which could not be loaded: npm install ${packageName}`,
      { package: packageName },
      cause,
    )
  }
}
