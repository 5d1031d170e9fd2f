import { hashValue } from "../sharding/hash.js"

/** Tells ids apart, save for one pair in some 2^53: the first 53 bits of their hash. */
export const idKey = (id: string | bigint): number => Number(hashValue(id) >> 11n)

/** The key of no id: those of ids are whole numbers from 0. */
export const NO_ID = -1
