/**
 * Whether tests of killed and racing processes try all that they can, which takes many minutes: TEST_THOROUGH=1, as CI
 * has it on MinIO.
 */
export const THOROUGH = process.env.TEST_THOROUGH === "1"

/**
 * Whether everything is tested, as `npm run test:all` does with TEST_ALL=1. Without it `npm test` leaves out the files
 * named `*.slow.test.ts`, and tests that ask for this try fewer cases.
 */
export const ALL = THOROUGH || process.env.TEST_ALL === "1"
