import { run } from '@darter/testing'

/** Part of a blob as curl fetched it. */
export interface CurlAnswer {
  readonly status: number
  /** Lower-case names. */
  readonly headers: ReadonlyMap<string, string>
  readonly body: Buffer
}

/** One request by curl: `--path-as-is`, so that nothing in the path is tidied up before it is sent. */
export async function curl(url: string, args: readonly string[] = []): Promise<CurlAnswer> {
  const { stdout } = await run('curl', [
    '--silent',
    '--show-error',
    '--include',
    '--path-as-is',
    '--globoff',
    '--max-time',
    '60',
    '--noproxy',
    '*',
    ...args,
    url,
  ])
  const split = stdout.indexOf('\r\n\r\n')
  const [statusLine = '', ...lines] = stdout.subarray(0, split).toString('latin1').split('\r\n')
  const headers = lines.map(line => {
    const colon = line.indexOf(':')
    return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()] as const
  })
  return {
    status: Number(statusLine.split(' ')[1]),
    headers: new Map(headers),
    body: stdout.subarray(split + 4),
  }
}
