import { accessSync, constants } from 'node:fs'
import { tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'
import { spawnSync } from 'node:child_process'
import { CACHE_DIR, newerLine, newerProgram, type NewerProgram } from './debian-trees.ts'

/** Debian's package for each real program that the tests drive. */
const PACKAGES = {
  'docker-registry': 'docker-registry',
  containerd: 'containerd',
  ctr: 'containerd',
  runc: 'runc',
  skopeo: 'skopeo',
  busybox: 'busybox-static',
  podman: 'podman',
  dockerd: 'docker.io',
  docker: 'docker.io',
  curl: 'curl',
  htpasswd: 'apache2-utils',
  openssl: 'openssl',
  nginx: 'nginx-light',
  ip: 'iproute2',
  tc: 'iproute2',
  script: 'bsdutils',
  go: 'golang-go',
} as const

/** Python's package for each real program that comes that way, with its version. */
const PYTHON_PACKAGES = {
  moto_server: 'moto[s3,iam,server]==5.2.5',
  hf: 'huggingface_hub==2.4.0',
} as const

/** A program in Python that a test cannot do without. */
export type PythonProgram = keyof typeof PYTHON_PACKAGES

/** Each of Python's packages has an environment of its own. */
const environmentOf = (program: PythonProgram) =>
  join(CACHE_DIR, PYTHON_PACKAGES[program].replace(/(?:\[.*\])?==/, '-'))

/** How to start a Python program that {@link requirePrograms} was asked for. */
export function pythonProgram(program: PythonProgram): string {
  return join(environmentOf(program), 'bin', program)
}

const isExecutable = (path: string) => {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

/** What installs a Python program. */
function pythonLine(program: PythonProgram): string {
  const dir = environmentOf(program)
  return [
    'apt-get update',
    'apt-get install -y --no-install-recommends python3-venv',
    `/usr/bin/python3 -m venv ${dir}`,
    `${dir}/bin/pip install --quiet '${PYTHON_PACKAGES[program]}'`,
  ].join(' && ')
}

/** A program that is not part of Darter and that a test cannot do without. */
export type Program = keyof typeof PACKAGES

const SBIN = ['/usr/sbin', '/sbin']

/** Whether a program can be started by its bare name. */
function isInstalled(program: string): boolean {
  return [...(process.env['PATH'] ?? '').split(delimiter), ...SBIN].some(dir =>
    isExecutable(join(dir, program)),
  )
}

/** Installs all that any test needs, so that it happens once. */
function install(): void {
  const packages = [...new Set(Object.values(PACKAGES))]
  installBy(`apt-get update && apt-get install -y --no-install-recommends ${packages.join(' ')}`)
}

function installBy(line: string): void {
  console.error(`installing what the tests need: ${line}`)
  // One at a time: test files run in parallel processes.
  const run = spawnSync('flock', [join(tmpdir(), 'darter-test-install.lock'), 'sh', '-c', line], {
    stdio: ['ignore', 2, 2],
    env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
  })
  if (run.status !== 0) throw new Error(`could not install what the tests need; tried: ${line}`)
}

/**
 * Options for a `describe` or `test` that drives real programs: `{ skip }` with the exact line to type where they are
 * missing. With CI=true or DARTER_TEST_INSTALL=1 they are installed instead, and under CI nothing is ever skipped.
 *
 * @throws {Error} when they are missing, must not be, and cannot be installed; or when CI is not run by root and
 * `root` is asked for.
 */
export function requirePrograms(
  programs: readonly Program[],
  options: {
    readonly root?: boolean
    readonly python?: readonly PythonProgram[]
    readonly newer?: readonly NewerProgram[]
  } = {},
): { readonly skip: string | false } {
  const isCi = process.env['CI'] === 'true'
  const isRoot = process.getuid?.() === 0
  const missing = () => [...new Set(programs.filter(name => !isInstalled(name)).map(name => PACKAGES[name]))]
  const mayInstall = isCi || process.env['DARTER_TEST_INSTALL'] === '1'
  if (missing().length > 0 && mayInstall) install()
  const { python = [], newer = [] } = options
  const missingPython = () => python.filter(name => !isExecutable(pythonProgram(name)))
  if (mayInstall) for (const name of missingPython()) installBy(pythonLine(name))
  const missingNewer = () => [
    ...new Set(newer.filter(name => !isExecutable(newerProgram(name))).map(newerLine)),
  ]
  if (mayInstall) for (const line of missingNewer()) installBy(line)
  const reasons: string[] = []
  if (missing().length > 0) {
    reasons.push(
      `missing programs; type: apt-get update && apt-get install -y --no-install-recommends ${missing().join(' ')}`,
    )
  }
  for (const name of missingPython()) reasons.push(`missing ${name}; type: ${pythonLine(name)}`)
  for (const line of missingNewer()) reasons.push(`missing newer programs; type: ${line}`)
  if (options.root === true && !isRoot)
    reasons.push('container daemons and networks need root; run this as root')
  if (reasons.length === 0) return { skip: false }
  const reason = reasons.join('; ')
  if (isCi) throw new Error(`nothing may be skipped in CI: ${reason}`)
  console.error(`\n*** SKIPPED TESTS: ${reason} ***\n`)
  return { skip: reason }
}
