import { createSecretKey, type KeyObject, randomBytes } from 'node:crypto'
import { constants, link, mkdir, open, unlink } from 'node:fs/promises'
import { dirname } from 'node:path'
import { generateKeyPair, privateKeyFromProtobuf, privateKeyToProtobuf } from '@libp2p/crypto/keys'
import type { Ed25519PrivateKey } from '@libp2p/interface'
import { InsecureFileError, InvalidSecretError, MissingClusterKeyError, MissingTokenError } from './errors.ts'

/** Bytes of a cluster key. */
const CLUSTER_KEY_BYTES = 32
/** Bytes of a token that is made here. */
const TOKEN_BYTES = 32
/** More than any file here takes. */
const MAX_FILE_BYTES = 4096

/** A program's libp2p private key. */
export type Identity = Ed25519PrivateKey

/**
 * The Ed25519 key in `file`, made there at the first use (mode 0600, its directory 0700). The file holds libp2p's
 * protobuf form in base64.
 * @throws {InsecureFileError} when others may read the file; {@link InvalidSecretError} when it holds something else.
 */
export async function loadOrCreateIdentity(file: string): Promise<Identity> {
  const text = await loadOrCreateSecret(file, async () => {
    return Buffer.from(privateKeyToProtobuf(await generateKeyPair('Ed25519'))).toString('base64')
  })
  const expected = 'an Ed25519 libp2p private key in base64'
  try {
    const key = privateKeyFromProtobuf(Buffer.from(text, 'base64'))
    if (key.type === 'Ed25519') return key
  } catch (error) {
    throw new InvalidSecretError(file, expected, { cause: error })
  }
  throw new InvalidSecretError(file, expected)
}

/**
 * The cluster key in `file`, 32 random bytes as 64 hex digits, made there at the first use (mode 0600, its directory
 * 0700). Whoever has it is a member of the cluster.
 * @throws {InsecureFileError} when others may read the file; {@link InvalidSecretError} when it holds something else.
 */
export async function loadOrCreateClusterKey(file: string): Promise<KeyObject> {
  return clusterKeyFrom(
    file,
    await loadOrCreateSecret(file, async () => randomBytes(CLUSTER_KEY_BYTES).toString('hex')),
  )
}

/**
 * The cluster key in `file`, which must exist.
 * @throws {MissingClusterKeyError} when it does not; as {@link loadOrCreateClusterKey}.
 */
export async function loadClusterKey(file: string): Promise<KeyObject> {
  try {
    return clusterKeyFrom(file, await readSecret(file))
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT')
      throw new MissingClusterKeyError(file)
    throw error
  }
}

/**
 * The token in `file`, 32 random bytes as 64 hex digits or any other text without spaces that was put there, made at the first
 * use (mode 0600, its directory 0700).
 * @throws {InsecureFileError} when others may read the file; {@link InvalidSecretError} when it holds something else.
 */
export async function loadOrCreateToken(file: string): Promise<string> {
  return tokenFrom(file, await loadOrCreateSecret(file, async () => randomBytes(TOKEN_BYTES).toString('hex')))
}

/** The token in `file`, which must exist. @throws {MissingTokenError} when it does not; as {@link loadOrCreateToken}. */
export async function loadToken(file: string): Promise<string> {
  try {
    return tokenFrom(file, await readSecret(file))
  } catch (error) {
    throw hasCode(error, 'ENOENT') ? new MissingTokenError(file) : error
  }
}

function tokenFrom(file: string, text: string): string {
  if (/^[!-~]{16,}$/.test(text)) return text
  throw new InvalidSecretError(file, 'a token of at least 16 characters without spaces')
}

function clusterKeyFrom(file: string, text: string): KeyObject {
  if (!/^[0-9a-f]{64}$/i.test(text)) throw new InvalidSecretError(file, 'a cluster key of 64 hex digits')
  return createSecretKey(Buffer.from(text, 'hex'))
}

async function readSecret(file: string): Promise<string> {
  await using handle = await open(file, constants.O_RDONLY)
  const { mode, size } = await handle.stat()
  if ((mode & 0o077) !== 0) throw new InsecureFileError(file, mode & 0o777)
  if (size > MAX_FILE_BYTES) throw new InvalidSecretError(file, `a secret of at most ${MAX_FILE_BYTES} bytes`)
  return (await handle.readFile('utf8')).trim()
}

/**
 * The secret in `file`, at most 4096 bytes of text; what `make` returns is put there at the first use (mode 0600, its
 * directory 0700). Of several processes that make one at the same moment, all get the same.
 * @throws {InsecureFileError} when others may read the file; {@link InvalidSecretError} when it holds more.
 */
export async function loadOrCreateSecret(file: string, make: () => Promise<string>): Promise<string> {
  try {
    return await readSecret(file)
  } catch (error) {
    if (!hasCode(error, 'ENOENT')) throw error
  }
  const directory = dirname(file)
  await mkdir(directory, { recursive: true, mode: 0o700 })
  const temporary = `${file}.${randomBytes(8).toString('hex')}`
  try {
    const handle = await open(temporary, 'wx', 0o600)
    try {
      await handle.writeFile(`${await make()}\n`)
      await handle.sync()
    } finally {
      await handle.close()
    }
    // Unlike a rename, a link never replaces the key that another process made at the same moment.
    await link(temporary, file).catch(error => {
      if (!hasCode(error, 'EEXIST')) throw error
    })
  } finally {
    await unlink(temporary).catch(() => {})
  }
  const parent = await open(directory, constants.O_RDONLY)
  try {
    await parent.sync()
  } finally {
    await parent.close()
  }
  return readSecret(file)
}

function hasCode(error: unknown, code: string): boolean {
  return error instanceof Error && 'code' in error && error.code === code
}
