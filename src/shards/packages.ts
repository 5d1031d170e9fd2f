import { unsupported } from "../errors.js"

/**
 * Runs `load`, which imports (and tries out) an optional native package. If that fails, throws `Unsupported` with the
 * package to install.
 */
export async function withPackage<T>(
  packageName: string,
  backend: string,
  load: () => T | Promise<T>,
): Promise<T> {
  try {
    return await load()
  } catch (cause) {
    throw unsupported(
      `the ${backend} backend needs the package "${packageName}", which could not be loaded: npm install ${packageName}`,
      { package: packageName, backend },
      cause,
    )
  }
}
