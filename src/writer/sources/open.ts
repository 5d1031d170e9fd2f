export interface SourceOptions { [k: string]: any }
export async function openSource(_i: readonly string[], _o: SourceOptions = {}): Promise<any> { throw new Error("stub") }
