import {
  createCipheriv,
  createDecipheriv,
  createPublicKey,
  createSecretKey,
  diffieHellman,
  generateKeyPairSync,
  hash,
  hkdfSync,
  type KeyObject,
} from 'node:crypto'
import { type ICryptoInterface, pureJsCrypto } from '@chainsafe/libp2p-noise'

const CIPHER = 'chacha20-poly1305'
/** Bytes: of a key or hash, of an authentication tag. */
const KEY = 32
const TAG = 16

type Bytes = Uint8Array | { subarray(): Uint8Array }

/**
 * Noise's primitives (Noise_XX_25519_ChaChaPoly_SHA256) by OpenSSL, with keys that are handed over once: Noise's own bring
 * each key from bytes again for every use, which takes three times as long as what is then done with it.
 */
export function nativeNoiseCrypto(): ICryptoInterface {
  /** By the bytes that Noise knows them as: a private key by bytes that say nothing. */
  const privateKeys = new WeakMap<object, KeyObject>()
  const publicKeys = new WeakMap<object, KeyObject>()
  const secretKeys = new WeakMap<object, KeyObject>()

  const publicKeyOf = (bytes: Bytes): KeyObject =>
    remembered(publicKeys, bytes, () => {
      const x = Buffer.from(bytes.subarray()).toString('base64url')
      return withoutStacks(() => createPublicKey({ format: 'jwk', key: { kty: 'OKP', crv: 'X25519', x } }))
    })
  const secretKeyOf = (bytes: Uint8Array): KeyObject =>
    remembered(secretKeys, bytes, () => createSecretKey(bytes))

  return {
    hashSHA256: data => hash('sha256', data.subarray(), 'buffer'),
    getHKDF: (chainingKey, material) => {
      const keys = new Uint8Array(hkdfSync('sha256', material, chainingKey, '', 3 * KEY))
      return [keys.subarray(0, KEY), keys.subarray(KEY, 2 * KEY), keys.subarray(2 * KEY)]
    },
    generateX25519KeyPair: () => {
      const pair = generateKeyPairSync('x25519')
      const { x = '' } = pair.publicKey.export({ format: 'jwk' })
      const privateKey = new Uint8Array(0)
      privateKeys.set(privateKey, pair.privateKey)
      return { publicKey: Buffer.from(x, 'base64url'), privateKey }
    },
    generateX25519KeyPairFromSeed: pureJsCrypto.generateX25519KeyPairFromSeed,
    generateX25519SharedKey: (own, theirs) => {
      const privateKey = privateKeys.get(own)
      if (privateKey === undefined) return pureJsCrypto.generateX25519SharedKey(own, theirs)
      return diffieHellman({ privateKey, publicKey: publicKeyOf(theirs) })
    },
    chaCha20Poly1305Encrypt: (plaintext, nonce, ad, key) => {
      const cipher = createCipheriv(CIPHER, secretKeyOf(key), nonce, { authTagLength: TAG })
      if (ad.length > 0) cipher.setAAD(ad, { plaintextLength: plaintext.byteLength })
      const sealed = cipher.update(plaintext.subarray())
      cipher.final()
      return Buffer.concat([sealed, cipher.getAuthTag()])
    },
    chaCha20Poly1305Decrypt: (ciphertext, nonce, ad, key) => {
      const sealed = ciphertext.subarray()
      const end = sealed.length - TAG
      const decipher = createDecipheriv(CIPHER, secretKeyOf(key), nonce, { authTagLength: TAG })
      if (ad.length > 0) decipher.setAAD(ad, { plaintextLength: end })
      decipher.setAuthTag(sealed.subarray(end))
      const plaintext = decipher.update(sealed.subarray(0, end))
      decipher.final()
      return plaintext
    },
  }
}

function remembered(known: WeakMap<object, KeyObject>, bytes: object, make: () => KeyObject): KeyObject {
  let key = known.get(bytes)
  if (key === undefined) {
    key = make()
    known.set(bytes, key)
  }
  return key
}

/** Node (24) asks each argument whether it is a key by an exception, whose stack trace takes longer than reading the key. */
function withoutStacks<T>(run: () => T): T {
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  try {
    return run()
  } finally {
    Error.stackTraceLimit = stackTraceLimit
  }
}
