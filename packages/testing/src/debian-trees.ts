import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { join } from 'node:path'

/** Where what the tests have fetched is kept between runs. */
export const CACHE_DIR = join(process.env['XDG_CACHE_HOME'] || join(homedir(), '.cache'), 'darter-test')

const SCRIPT = join(import.meta.dirname, '..', 'debian-tree.sh')

/** A later Debian than the oldest one that the tests run on, and its packages that lie beside the system's own. */
interface Tree {
  readonly suite: string
  readonly packages: readonly string[]
}

const TRIXIE: Tree = {
  suite: 'trixie',
  // With what the two programs need, and what that needs.
  packages: [
    ...[
      'podman',
      'skopeo',
      'conmon',
      'libacl1',
      'libassuan9',
      'libatomic1',
      'libattr1',
      'libaudit1',
      'libbsd0',
    ],
    ...['libbz2-1.0', 'libc6', 'libcap-ng0', 'libcap2', 'libcrypt1', 'libgcc-s1', 'libglib2.0-0t64'],
    ...[
      'libgpg-error0',
      'libgpgme11t64',
      'libmd0',
      'libpam0g',
      'libpcre2-8-0',
      'libseccomp2',
      'libselinux1',
      'libsemanage2',
    ],
    ...['libsepol2', 'libsqlite3-0', 'libsubid5', 'libsystemd0', 'netavark', 'runc'],
  ],
}
const FORKY: Tree = { suite: 'forky', packages: ['containerd', 'libc6'] }

const TREES = { containerd: FORKY, ctr: FORKY, podman: TRIXIE, skopeo: TRIXIE } as const

/** A program in a later version than the oldest Debian that the tests run on has. */
export type NewerProgram = keyof typeof TREES

/** Other packages, or another way to unpack them, make another directory. */
function directoryOf({ suite, packages }: Tree): string {
  const hash = createHash('sha256').update(readFileSync(SCRIPT)).update(packages.join(' ')).digest('hex')
  return join(CACHE_DIR, `debian-${suite}-${hash.slice(0, 8)}`)
}

/** How to start a newer program that `requirePrograms` was asked for. It sees only the system's /tmp, /run and /etc, and needs root. */
export function newerProgram(program: NewerProgram): string {
  return join(directoryOf(TREES[program]), 'bin', program)
}

/** What installs a newer program. */
export function newerLine(program: NewerProgram): string {
  const tree = TREES[program]
  return ['sh', SCRIPT, tree.suite, directoryOf(tree), ...tree.packages].join(' ')
}
