// Installs the workspace's dependencies when the lockfile changed since the last install.
// Plain JavaScript for any Node >= 18: it runs before the pinned runtime is there.
import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { existsSync, lstatSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { fileURLToPath } from 'node:url'

const root = join(dirname(fileURLToPath(import.meta.url)), '..')
const stampFile = join(root, 'node_modules', '.darter-setup')
const { packageManager } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'))
const stamp = createHash('sha256')
  .update(readFileSync(join(root, 'pnpm-lock.yaml')))
  .digest('hex')

if (!existsSync(stampFile) || readFileSync(stampFile, 'utf8') !== stamp) {
  const pnpm = packageManager.split('+')[0]
  // Everything goes to stderr, so that a command with JSON on stdout stays readable on a fresh clone.
  const run = spawnSync('npx', ['--yes', pnpm, 'install', '--frozen-lockfile', '--prefer-offline'], {
    cwd: root,
    stdio: ['ignore', 2, 2],
    env: { ...process.env, CI: 'true' },
  })
  if (run.status !== 0) {
    console.error('setup: installing the dependencies failed; is a package registry reachable?')
    process.exit(run.status ?? 1)
  }
  writeFileSync(stampFile, stamp)
}

// pnpm puts a shell script before the runtime, which would keep signals from it: a link passes them on.
const runtime = join('..', `node-linux-${process.arch}`, 'bin', 'node')
const command = join(root, 'node_modules', '.bin', 'node')
if (existsSync(join(root, 'node_modules', '.bin', runtime)) && !lstatSync(command).isSymbolicLink()) {
  rmSync(command)
  symlinkSync(runtime, command)
}
