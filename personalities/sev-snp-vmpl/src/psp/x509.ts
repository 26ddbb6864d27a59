import { ECParameters, id_ecdsaWithSHA384, id_ecPublicKey, id_secp384r1 } from '@peculiar/asn1-ecc';
import { AsnConvert, OctetString } from '@peculiar/asn1-schema';
import {
  AlgorithmIdentifier, AttributeTypeAndValue, AttributeValue, AuthorityKeyIdentifier, BasicConstraints, Certificate, Extension, Extensions, id_ce_authorityKeyIdentifier, id_ce_basicConstraints, id_ce_keyUsage,
  id_ce_subjectKeyIdentifier, KeyIdentifier, KeyUsage, KeyUsageFlags, Name, RelativeDistinguishedName, SubjectKeyIdentifier, SubjectPublicKeyInfo, TBSCertificate, Time, Validity, Version,
} from '@peculiar/asn1-x509';
import { createHash } from 'node:crypto';
import { type KeyPair, signDer } from './ecdsa.ts';

const ORGANIZATION = 'vmplanes simulated platform';
const id_at_organizationName = '2.5.4.10';
const id_at_commonName = '2.5.4.3';
/** No clock here: every certificate holds through the first half of the century. */
const VALID_FROM = '200101000000Z';
const VALID_TO = '491231235959Z';
const UTC_TIME_TAG = 0x17;

/** A certificate to be made. */
export interface CertificateRequest {
  readonly commonName: string;
  /** Positive, at most 20 bytes. @spec RFC 5280, 4.1.2.2 */
  readonly serial: Uint8Array;
  readonly key: KeyPair;
  /** May sign other certificates. */
  readonly isAuthority: boolean;
  /** Beside the usual ones: identifier and value in DER. */
  readonly extensions?: readonly (readonly [id: string, value: Uint8Array])[];
}

/** Who signs: a name and a key. */
export interface Issuer {
  readonly commonName: string;
  readonly key: KeyPair;
}

/** An exact copy: the libraries keep whole buffers. */
const exact = (bytes: Uint8Array): ArrayBuffer => Uint8Array.from(bytes).buffer;
const der = (value: unknown): ArrayBuffer => AsnConvert.serialize(value);

const nameOf = (commonName: string): Name =>
  new Name([
    new RelativeDistinguishedName([new AttributeTypeAndValue({ type: id_at_organizationName, value: new AttributeValue({ utf8String: ORGANIZATION }) })]),
    new RelativeDistinguishedName([new AttributeTypeAndValue({ type: id_at_commonName, value: new AttributeValue({ utf8String: commonName }) })]),
  ]);

const point = (key: KeyPair): Uint8Array => Uint8Array.of(4, ...key.point);
/** @spec RFC 5280, 4.2.1.2, method 1 */
const keyId = (key: KeyPair): ArrayBuffer => exact(createHash('sha1').update(point(key)).digest());

const publicKeyInfo = (key: KeyPair): SubjectPublicKeyInfo =>
  new SubjectPublicKeyInfo({ algorithm: new AlgorithmIdentifier({ algorithm: id_ecPublicKey, parameters: der(new ECParameters({ namedCurve: id_secp384r1 })) }), subjectPublicKey: exact(point(key)) });

/** Years 1950 to 2049 are written as UTCTime. @spec RFC 5280, 4.1.2.5 */
const instant = (text: string): Time => AsnConvert.parse(Uint8Array.of(UTC_TIME_TAG, text.length, ...new TextEncoder().encode(text)).buffer, Time);
function validity(): Validity {
  const out = new Validity();
  out.notBefore = instant(VALID_FROM);
  out.notAfter = instant(VALID_TO);
  return out;
}

const extension = (extnID: string, value: ArrayBuffer, critical = false): Extension => new Extension({ extnID, critical, extnValue: new OctetString(value) });

/** A certificate in DER, always the same for the same request. @spec RFC 5280 */
export function certificateOf(request: CertificateRequest, issuer: Issuer): Uint8Array {
  const signature = new AlgorithmIdentifier({ algorithm: id_ecdsaWithSHA384 });
  const usage = request.isAuthority ? KeyUsageFlags.keyCertSign | KeyUsageFlags.cRLSign : KeyUsageFlags.digitalSignature;
  const tbsCertificate = new TBSCertificate({
    version: Version.v3,
    serialNumber: exact(request.serial),
    signature,
    issuer: nameOf(issuer.commonName),
    validity: validity(),
    subject: nameOf(request.commonName),
    subjectPublicKeyInfo: publicKeyInfo(request.key),
    extensions: new Extensions([
      extension(id_ce_basicConstraints, der(new BasicConstraints({ cA: request.isAuthority })), true),
      extension(id_ce_keyUsage, der(new KeyUsage(usage)), true),
      extension(id_ce_subjectKeyIdentifier, der(new SubjectKeyIdentifier(keyId(request.key)))),
      extension(id_ce_authorityKeyIdentifier, der(new AuthorityKeyIdentifier({ keyIdentifier: new KeyIdentifier(keyId(issuer.key)) }))),
      ...(request.extensions ?? []).map(([id, value]) => extension(id, exact(value))),
    ]),
  });
  const signed = der(tbsCertificate);
  return new Uint8Array(der(new Certificate({ tbsCertificate, signatureAlgorithm: signature, signatureValue: exact(signDer(new Uint8Array(signed), issuer.key)) })));
}
