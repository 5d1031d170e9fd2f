/** Whether tests of killed and racing processes try all that they can, which takes minutes: TEST_THOROUGH=1, as CI has it on MinIO. */
export const THOROUGH = process.env.TEST_THOROUGH === "1"
