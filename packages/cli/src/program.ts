import {
  DarterError,
  type Digest,
  isDigest,
  parseImageReference,
  parsePlatform,
  type Platform,
} from '@darter/oci'
import { parseBytes, UnitError } from '@darter/runtime'
import { Command, CommanderError, InvalidArgumentError } from 'commander'
import { ConfigError } from './config/errors.ts'
import { addOptionFlags, optionsOf } from './config/flags.ts'
import { loadSettings } from './config/load.ts'
import type { Resolved } from './config/resolve.ts'
import type { OptionKey } from './config/schema.ts'
import { VERSION } from './version.ts'

/** A command's work, given its settings and its own few flags; resolves to the exit code. */
type Run<O> = (resolved: Resolved, own: O, args: readonly string[]) => Promise<number>

const USAGE = 2

const wholeNumber = (min: number, max: number) => (text: string) => {
  const value = Number(text)
  if (/^\d{1,9}$/.test(text) && value >= min && value <= max) return value
  throw new InvalidArgumentError(`It must be a whole number, ${min} to ${max}.`)
}

const imageSize = (text: string) => {
  try {
    const bytes = parseBytes(text)
    if (bytes > 0) return bytes
  } catch (error) {
    if (!(error instanceof UnitError)) throw error
  }
  throw new InvalidArgumentError('It must be a size such as 256MiB or 1GiB.')
}

const wantedDigest = (text: string): Digest => {
  if (isDigest(text)) return text
  throw new InvalidArgumentError('It must be sha256: and 64, or sha512: and 128 lower-case hex digits.')
}

/** Adds a header to those before it. What is wrong with it is said without its value, which may be secret. */
const addHeader = (text: string, before: ReadonlyMap<string, string>): ReadonlyMap<string, string> => {
  const [, name, value] = /^([!#$%&'*+.^_`|~\w-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*)$/.exec(text) ?? []
  if (name === undefined || value === undefined) throw new ConfigError(["--header must be 'Name: value'"])
  const key = name.toLowerCase()
  if (before.has(key)) throw new ConfigError([`--header names ${key} twice`])
  return new Map([...before, [key, value]])
}

/** The one header of a client that the peer takes on to a registry. */
const addAuthorization = (text: string, before: ReadonlyMap<string, string>): ReadonlyMap<string, string> => {
  const headers = addHeader(text, before)
  if (headers.has('authorization')) return headers
  throw new ConfigError(['--header must be Authorization: no other goes on to the registry'])
}

const isUrl = (text: string) => /^(?:https?|s3):\/\//i.test(text) && URL.canParse(text)

const absoluteUrl = (text: string): URL => {
  if (isUrl(text)) return new URL(text)
  throw new InvalidArgumentError('It must be an https://, http:// or s3:// URL.')
}

const preheatTarget = (text: string): string => {
  if (!isUrl(text)) parseImageReference(text)
  return text
}

/** What `read` makes of an argument; what it throws is wrong usage. */
const argument =
  <T>(read: (text: string) => T) =>
  (text: string): T => {
    try {
      return read(text)
    } catch (error) {
      if (error instanceof DarterError) throw new InvalidArgumentError(`${error.message}.`)
      throw error
    }
  }

/** The `darter` command line. Commands load their own code when they run; `exit` receives a command's exit code. */
function createProgram(exit: (code: number) => void): Command {
  const program = new Command('darter')
    .description('Peer-to-peer distribution of container images and other blobs.')
    .version(VERSION, '--version', 'Print the version.')
    .helpOption('-h, --help', 'Show help.')
    .helpCommand(false)
    .addHelpText(
      'after',
      [
        '',
        'Options may also stand in a YAML file (--config, DARTER_CONFIG, else ./darter.yaml or',
        '/etc/darter/darter.yaml) and in environment variables. Precedence: flags, environment, file, defaults.',
      ].join('\n'),
    )

  // Subcommands take over these settings only when they are made after them.
  program
    .exitOverride()
    .configureOutput({ outputError: (text, write) => write(text.replace(/^error: /, 'darter: ')) })

  const add = <O>(
    name: string,
    description: string,
    keys: readonly OptionKey[],
    load: () => Promise<Run<O>>,
    parent = program,
  ) => {
    const command = parent.command(name).description(description).allowExcessArguments(false)
    command.option('--config <FILE>', 'YAML file with options (env: DARTER_CONFIG).')
    const given = addOptionFlags(command, keys)
    command.action(async () => {
      const own = command.opts<O & { config?: string }>()
      const resolved = await loadSettings({ flags: given(), configFile: own.config, env: process.env })
      exit(await (await load())(resolved, own, command.args))
    })
    return command
  }

  const both = optionsOf(['peer', 'scheduler'])
  add(
    'up',
    'Run a scheduler and a peer in one process, on loopback unless told otherwise.',
    both.filter(key => key !== 'schedulers'),
    async () => (await import('./commands/services.ts')).runUp,
  )
  add('scheduler', 'Run a scheduler.', optionsOf(['scheduler']), async () => {
    return (await import('./commands/services.ts')).runScheduler
  })
  add(
    'peer',
    'Run a peer.',
    optionsOf(['peer']),
    async () => (await import('./commands/services.ts')).runPeer,
  )
  program
    .command('demo')
    .description(
      'Pull an image of random data through several peers at once, and show what the origin had to serve.',
    )
    .allowExcessArguments(false)
    .option('--size <SIZE>', 'Size of the image (default: 256MiB).', imageSize, parseBytes('256MiB'))
    .option('--layers <N>', 'Layers of the image (default: 4).', wholeNumber(1, 64), 4)
    .option('--peers <N>', 'Peers that pull at the same moment (default: 4).', wholeNumber(1, 64), 4)
    .option('--json', 'Print one JSON object alone on standard output.', false)
    .option('--keep', 'Leave the directory of the demo behind.', false)
    .action(async ({ size, layers, peers, json, keep }) => {
      const { runDemo } = await import('./commands/demo.ts')
      exit(await runDemo({ imageBytes: size, layers, peers, json, keep }))
    })
  add<{ output?: string; digest?: Digest; header: ReadonlyMap<string, string>; quiet: boolean }>(
    'get',
    'Fetch a URL through the peer that runs on this machine, and the swarm.',
    ['door.host', 'door.port'],
    async () => {
      const { runGet } = await import('./commands/get.ts')
      return async (resolved, { output, digest, header, quiet }, [url = '']) =>
        await runGet(resolved, { url: absoluteUrl(url), output, digest, headers: header, quiet })
    },
  )
    .argument(
      '<URL>',
      'An https://, http:// or s3:// URL that the peer may read (its option --url-allow).',
      absoluteUrl,
    )
    .option('-o, --output <FILE>', 'File or directory to write to; - for standard output.')
    .option(
      '--digest <DIGEST>',
      'The sha256:... or sha512:... digest that the content must have.',
      wantedDigest,
    )
    .option(
      '--header <HEADER>',
      "A header for the URL's origin, such as 'Authorization: Bearer ...'.",
      addHeader,
      new Map(),
    )
    .option('-q, --quiet', 'Say nothing but errors.', false)
  add<{ dir: string; quiet: boolean }>(
    'export',
    'Put the blobs of an image into a directory, each under its bare sha256, through the peer that runs on this machine.',
    ['door.host', 'door.port'],
    async () => {
      const { runExport } = await import('./commands/export.ts')
      return async (resolved, { dir, quiet }, [image = '']) =>
        await runExport(resolved, { image, dir, quiet })
    },
  )
    .argument('<IMAGE>', '[UPSTREAM/]REPOSITORY[:TAG|@DIGEST] of an image or of one blob.')
    .requiredOption('--dir <DIR>', 'The directory; made when it is missing.')
    .option('-q, --quiet', 'Say nothing but errors.', false)
  const nydus = program
    .command('nydus')
    .description('What nydusd needs besides a registry.')
    .helpCommand(false)
  add<{ dir: string }>(
    'socket',
    'Open a socket for each blob of images, for http-proxy backends, and serve them from the peer until a signal.',
    ['door.host', 'door.port'],
    async () => {
      const { runNydusSocket } = await import('./commands/nydus-socket.ts')
      return async (resolved, { dir }, images) => await runNydusSocket(resolved, { images, dir })
    },
    nydus,
  )
    .argument('<IMAGES...>', '[UPSTREAM/]REPOSITORY[:TAG|@DIGEST] of images or blobs.')
    .requiredOption('--dir <DIR>', 'Where the sockets go; made when it is missing.')
  add<{
    platform?: Platform
    to?: string
    digest?: Digest
    header: ReadonlyMap<string, string>
    quiet: boolean
  }>(
    'preheat',
    'Bring an image, a blob or the content of a URL into the peer that runs on this machine, or with --to into others, before anybody pulls it.',
    [
      'door.host',
      'door.port',
      'data-dir',
      'scheduler.admin.host',
      'scheduler.admin.port',
      'scheduler.admin.token-file',
    ],
    async () => {
      const { runPreheat } = await import('./commands/preheat.ts')
      const { runPreheatCluster } = await import('./commands/preheat-cluster.ts')
      return async (resolved, { to, ...own }, [target = '']) =>
        to === undefined
          ? await runPreheat(resolved, { ...own, target, headers: own.header })
          : await runPreheatCluster(resolved, { ...own, target, headers: own.header, to })
    },
  )
    .argument(
      '<TARGET>',
      "An image of the peer's upstreams, such as registry.example.com/team/app:1.2; one blob (REPOSITORY@DIGEST); or a URL.",
      argument(preheatTarget),
    )
    .option(
      '--platform <OS/ARCH>',
      "Which image of an index (default: linux and the peer's own architecture).",
      argument(parsePlatform),
    )
    .option('--to <PEERS>', 'Have the scheduler bring it to others: seeds, all, zone=Z, or n=K for so many.')
    .option('--digest <DIGEST>', 'The digest that the content of a URL has.', wantedDigest)
    .option(
      '--header <HEADER>',
      "'Authorization: ...' for the registry: Bearer, or Basic where it has no token service.",
      addAuthorization,
      new Map(),
    )
    .option('-q, --quiet', 'Say nothing but errors.', false)
  add(
    'status',
    'Show what the peer and the scheduler on this machine are doing.',
    ['admin.host', 'admin.port', 'scheduler.admin.host', 'scheduler.admin.port'],
    async () => (await import('./commands/status.ts')).runStatus,
  ).option('--json', 'Print one JSON object.', false)
  add(
    'ca',
    'Print the certificate of the forward proxy’s own authority, which is made when it is missing.',
    ['data-dir'],
    async () => (await import('./commands/ca.ts')).runCa,
  )
  add(
    'config',
    'Print the effective configuration with the source of each value, secrets masked.',
    both,
    async () => {
      return (await import('./commands/config.ts')).runConfig
    },
  )
  return program
}

/** Runs the command line; resolves to the exit code: 0 well, 1 failed, 2 used wrongly. */
export async function main(args: readonly string[]): Promise<number> {
  let code = 0
  try {
    const program = createProgram(exit => {
      code = exit
    })
    await program.parseAsync(args, { from: 'user' })
    return code
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : USAGE
    if (error instanceof ConfigError) {
      for (const problem of error.problems) console.error(`darter: ${problem}`)
      return USAGE
    }
    if (error instanceof DarterError || isSystemError(error)) console.error(`darter: ${error.message}`)
    else console.error(error)
    return 1
  }
}

/** A failure that the operating system names, such as a port in use: the message tells enough. */
function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error && typeof error.syscall === 'string'
}
