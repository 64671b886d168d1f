import { createHash, createPrivateKey, randomBytes, type webcrypto, X509Certificate } from 'node:crypto'
import { isIP } from 'node:net'
import { InvalidSecretError, loadOrCreateSecret } from '@darter/exchange'
import type { Clock } from '@darter/runtime'
import { BitString, Integer, OctetString, Utf8String } from 'asn1js'
import { LRUCache } from 'lru-cache'
import {
  AttributeTypeAndValue,
  AuthorityKeyIdentifier,
  BasicConstraints,
  Certificate,
  Extension,
  ExtKeyUsage,
  GeneralName,
  GeneralNames,
} from 'pkijs'
import { AuthorityExpiredError } from './errors.ts'

/** A key and its certificate, both PEM. */
export interface KeyAndCertificate {
  readonly key: string
  readonly cert: string
}

/** The proxy's own certificate authority: clients that trust it let their TLS end at this peer. */
export interface CertificateAuthority {
  /** PEM, to be given to clients. */
  readonly certificate: string
  /** A certificate for a host, valid for at least a day; made when it is first asked for, then kept. */
  leafFor(host: string): Promise<KeyAndCertificate>
}

const HOUR_MS = 3_600_000
const DAY_MS = 24 * HOUR_MS
const AUTHORITY_MS = 10 * 365 * DAY_MS
const LEAF_MS = 7 * DAY_MS
const MAX_LEAVES = 256
/** Clients' clocks may be behind. */
const EARLIER_MS = 25 * HOUR_MS
const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256' }
const AUTHORITY_NAME = 'Darter forward proxy'

// X.509 extensions (RFC 5280 4.2.1).
const SUBJECT_KEY = '2.5.29.14'
const KEY_USAGE = '2.5.29.15'
const SUBJECT_ALT_NAME = '2.5.29.17'
const BASIC_CONSTRAINTS = '2.5.29.19'
const AUTHORITY_KEY = '2.5.29.35'
const EXTENDED_KEY_USAGE = '2.5.29.37'
const SERVER_AUTH = '1.3.6.1.5.5.7.3.1'
const COMMON_NAME = '2.5.4.3'

/**
 * The authority in `file` (key and certificate as PEM), made there at the first use (mode 0600, its directory 0700).
 * @throws {InsecureFileError} when others may read the file; {@link InvalidSecretError} when it holds something else;
 * {@link AuthorityExpiredError} after ten years.
 */
export async function loadOrCreateAuthority(file: string, clock: Clock): Promise<CertificateAuthority> {
  const text = await loadOrCreateSecret(file, async () => {
    const { key, cert } = await createAuthority(clock)
    return key + cert
  })
  const expected = 'a private key and the certificate of an authority, as PEM'
  let key: webcrypto.CryptoKey
  let certificate: X509Certificate
  try {
    const secret = createPrivateKey(text)
    certificate = new X509Certificate(text.slice(text.indexOf('-----BEGIN CERTIFICATE-----')))
    if (!certificate.ca || !certificate.checkPrivateKey(secret)) throw new TypeError('they do not fit')
    const der = secret.export({ type: 'pkcs8', format: 'der' })
    key = await crypto.subtle.importKey('pkcs8', der, ALGORITHM, false, ['sign'])
  } catch (error) {
    throw new InvalidSecretError(file, expected, { cause: error })
  }
  if (certificate.validToDate.getTime() < clock.wall() + LEAF_MS) throw new AuthorityExpiredError(file)
  const own = Certificate.fromBER(new Uint8Array(certificate.raw))
  const leaves = new LRUCache<string, { readonly made: Promise<KeyAndCertificate>; readonly until: number }>({
    max: MAX_LEAVES,
  })
  return {
    certificate: certificate.toString(),
    leafFor: host => {
      const known = leaves.get(host)
      if (known !== undefined && known.until > clock.now()) return known.made
      const made = createLeaf(host, { own, key, clock })
      leaves.set(host, { made, until: clock.now() + LEAF_MS - DAY_MS })
      made.catch(() => leaves.delete(host))
      return made
    },
  }
}

async function createAuthority(clock: Clock): Promise<KeyAndCertificate> {
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const certificate = await blank({
    name: `${AUTHORITY_NAME} ${randomBytes(4).toString('hex')}`,
    publicKey: keys.publicKey,
    clock,
    lifeMs: AUTHORITY_MS,
  })
  certificate.issuer = certificate.subject
  certificate.extensions = [
    extension(BASIC_CONSTRAINTS, true, new BasicConstraints({ cA: true, pathLenConstraint: 0 }).toSchema()),
    // keyCertSign alone: bit 5.
    extension(KEY_USAGE, true, new BitString({ valueHex: new Uint8Array([0x04]).buffer, unusedBits: 2 })),
    extension(SUBJECT_KEY, false, keyIdentifier(certificate)),
  ]
  return signed(certificate, keys.privateKey, keys.privateKey)
}

async function createLeaf(
  host: string,
  authority: { readonly own: Certificate; readonly key: webcrypto.CryptoKey; readonly clock: Clock },
): Promise<KeyAndCertificate> {
  const { own, key, clock } = authority
  const keys = await crypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify'])
  const certificate = await blank({
    name: host.slice(0, 64),
    publicKey: keys.publicKey,
    clock,
    lifeMs: LEAF_MS,
  })
  certificate.issuer = own.subject
  // The names of upstreams are host names and IPv4 addresses.
  const name = new GeneralName(
    isIP(host) === 0
      ? { type: 2, value: host }
      : { type: 7, value: new OctetString({ valueHex: new Uint8Array(host.split('.').map(Number)).buffer }) },
  )
  certificate.extensions = [
    extension(BASIC_CONSTRAINTS, true, new BasicConstraints({ cA: false }).toSchema()),
    // digitalSignature alone: bit 0.
    extension(KEY_USAGE, true, new BitString({ valueHex: new Uint8Array([0x80]).buffer, unusedBits: 7 })),
    extension(EXTENDED_KEY_USAGE, false, new ExtKeyUsage({ keyPurposes: [SERVER_AUTH] }).toSchema()),
    extension(SUBJECT_ALT_NAME, false, new GeneralNames({ names: [name] }).toSchema()),
    extension(SUBJECT_KEY, false, keyIdentifier(certificate)),
    extension(
      AUTHORITY_KEY,
      false,
      new AuthorityKeyIdentifier({ keyIdentifier: keyIdentifier(own) }).toSchema(),
    ),
  ]
  return signed(certificate, key, keys.privateKey)
}

async function blank(options: {
  readonly name: string
  readonly publicKey: webcrypto.CryptoKey
  readonly clock: Clock
  readonly lifeMs: number
}): Promise<Certificate> {
  const { name, publicKey, clock, lifeMs } = options
  const certificate = new Certificate({ version: 2 })
  const serial = randomBytes(16)
  // Positive, and of the same length always.
  serial[0] = ((serial[0] ?? 0) & 0x3f) | 0x40
  certificate.serialNumber = new Integer({ valueHex: new Uint8Array(serial).buffer })
  certificate.subject.typesAndValues.push(
    new AttributeTypeAndValue({ type: COMMON_NAME, value: new Utf8String({ value: name }) }),
  )
  certificate.notBefore.value = new Date(clock.wall() - EARLIER_MS)
  certificate.notAfter.value = new Date(clock.wall() + lifeMs)
  await certificate.subjectPublicKeyInfo.importKey(publicKey)
  return certificate
}

async function signed(
  certificate: Certificate,
  signer: webcrypto.CryptoKey,
  privateKey: webcrypto.CryptoKey,
): Promise<KeyAndCertificate> {
  await certificate.sign(signer, 'SHA-256')
  const der = await crypto.subtle.exportKey('pkcs8', privateKey)
  const key = createPrivateKey({ key: Buffer.from(der), format: 'der', type: 'pkcs8' })
  return {
    key: key.export({ type: 'pkcs8', format: 'pem' }).toString(),
    cert: new X509Certificate(Buffer.from(certificate.toSchema(true).toBER())).toString(),
  }
}

function extension(extnID: string, critical: boolean, value: { toBER: () => ArrayBuffer }): Extension {
  return new Extension({ extnID, critical, extnValue: value.toBER() })
}

/** RFC 5280 4.2.1.2, method 1. */
function keyIdentifier(certificate: Certificate): OctetString {
  const bits = certificate.subjectPublicKeyInfo.subjectPublicKey.valueBlock.valueHexView
  const hash = createHash('sha1').update(bits).digest()
  return new OctetString({ valueHex: new Uint8Array(hash).buffer })
}
