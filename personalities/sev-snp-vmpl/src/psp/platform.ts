import { CertificateGuid, encodeCertificateTable, SigningKey, TcbVersion, TcbVersionTurin, TURIN_FAMILY } from '@vmplanes/abi-sev-snp';
import { AsnIntegerConverter } from '@peculiar/asn1-schema';
import { KEY_SEED_BYTES, type KeyPair, keyPairOf } from './ecdsa.ts';
import { derive } from './key-derivation.ts';
import { certificateOf, type Issuer } from './x509.ts';

/** Bytes of the secret that a simulated platform is made from. */
export const PLATFORM_SEED_BYTES = 48;
const CHIP_ID_BYTES = 64;
/** From this family on, eight bytes of the chip identifier are in use. */
const TURIN_CHIP_ID_BYTES = 8;

/** Security versions of the parts of a platform, 0 to 255 each. */
export interface Tcb {
  /** Family 1Ah and later only. */
  readonly fmc: number;
  readonly bootLoader: number;
  readonly tee: number;
  readonly snp: number;
  readonly microcode: number;
}

/** Which keys a platform signs reports with. */
export type SigningKeys = 'none' | 'vcek' | 'vlek';

/** What a simulated platform is like. */
export interface PlatformConfig {
  readonly seed: Uint8Array;
  readonly signing: SigningKeys;
  readonly tcb: Tcb;
  /** Of the CPU model: combined numbers. */
  readonly family: number;
  readonly model: number;
  readonly stepping: number;
}

/** Versions of the simulated firmware. */
export const FIRMWARE = { major: 1, minor: 55, build: 1 } as const;

/** A key that reports may be signed with. */
export interface EndorsementKey {
  readonly signingKey: SigningKey;
  readonly key: KeyPair;
  readonly certificate: Uint8Array;
  /** Secret that derived keys come from. */
  readonly root: Uint8Array;
}

/** A TCB in the form of its family. */
export function encodeTcb(tcb: Tcb, family: number): Uint8Array {
  const out = new Uint8Array(TcbVersion.size);
  const view = new DataView(out.buffer);
  if (family >= TURIN_FAMILY) TcbVersionTurin.write(view, 0, tcb);
  else TcbVersion.write(view, 0, tcb);
  return out;
}

/** What verifiers read of a platform from its certificate. @spec VCEK certificate specification, 3.1 */
const Oid = {
  structVersion: '1.3.6.1.4.1.3704.1.1',
  productName: '1.3.6.1.4.1.3704.1.2',
  blSpl: '1.3.6.1.4.1.3704.1.3.1',
  teeSpl: '1.3.6.1.4.1.3704.1.3.2',
  snpSpl: '1.3.6.1.4.1.3704.1.3.3',
  fmcSpl: '1.3.6.1.4.1.3704.1.3.9',
  ucodeSpl: '1.3.6.1.4.1.3704.1.3.8',
  hwId: '1.3.6.1.4.1.3704.1.4',
  cspId: '1.3.6.1.4.1.3704.1.5',
} as const;
const IA5_TAG = 0x16;
const PRODUCT = 'vmplanes';
const integer = (value: number): Uint8Array => new Uint8Array(AsnIntegerConverter.toASN(value).toBER());
const ia5 = (text: string): Uint8Array => Uint8Array.of(IA5_TAG, text.length, ...new TextEncoder().encode(text));

type Extensions = readonly (readonly [id: string, value: Uint8Array])[];

const tcbExtensions = (config: PlatformConfig): Extensions => [
  [Oid.structVersion, integer(config.family >= TURIN_FAMILY ? 1 : 0)],
  [Oid.productName, ia5(PRODUCT)],
  [Oid.blSpl, integer(config.tcb.bootLoader)],
  [Oid.teeSpl, integer(config.tcb.tee)],
  [Oid.snpSpl, integer(config.tcb.snp)],
  [Oid.ucodeSpl, integer(config.tcb.microcode)],
  ...(config.family >= TURIN_FAMILY ? [[Oid.fmcSpl, integer(config.tcb.fmc)] as const] : []),
];

/** Computes a value when it is first asked for: keys and signatures take milliseconds, and many guests never ask. */
function once<T>(make: () => T): () => T {
  let made: { readonly value: T } | null = null;
  return () => (made ??= { value: make() }).value;
}

/**
 * A simulated platform: its identity, its keys and the chain of certificates above them. Everything follows from the configuration. The names in the certificates are its
 * own: nothing here chains to a manufacturer.
 */
export class Platform {
  readonly config: PlatformConfig;
  readonly tcb: Uint8Array;
  readonly chipId: Uint8Array;
  readonly #hardwareId: Uint8Array;

  constructor(config: PlatformConfig) {
    this.config = config;
    this.tcb = encodeTcb(config.tcb, config.family);
    this.#hardwareId = derive(config.seed, 'chip id', config.family >= TURIN_FAMILY ? TURIN_CHIP_ID_BYTES : CHIP_ID_BYTES);
    this.chipId = new Uint8Array(CHIP_ID_BYTES);
    this.chipId.set(this.#hardwareId);
  }

  /** The root certificate, in DER. */
  get ark(): Uint8Array {
    return this.#ark();
  }
  /** The certificate below the root, in DER. */
  get ask(): Uint8Array {
    return this.#ask();
  }
  /** The key of the chip; null when reports are not signed. */
  get vcek(): EndorsementKey | null {
    return this.config.signing === 'none' ? null : this.#vcek();
  }
  /** The key that the host has loaded; null when it has not. */
  get vlek(): EndorsementKey | null {
    return this.config.signing === 'vlek' ? this.#vlek() : null;
  }
  /** The table that an extended guest request returns. */
  get certificates(): Uint8Array {
    return this.#certificates();
  }

  readonly #arkIssuer = once((): Issuer => ({ commonName: 'vmplanes simulated ARK', key: this.#key('ark') }));
  readonly #askIssuer = once((): Issuer => ({ commonName: 'vmplanes simulated ASK', key: this.#key('ask') }));
  readonly #ark = once(() => certificateOf({ ...this.#arkIssuer(), serial: this.#serial('ark'), isAuthority: true }, this.#arkIssuer()));
  readonly #ask = once(() => certificateOf({ ...this.#askIssuer(), serial: this.#serial('ask'), isAuthority: true }, this.#arkIssuer()));
  readonly #vcek = once(() => this.#endorsement('vcek', SigningKey.Vcek, [[Oid.hwId, this.#hardwareId]]));
  readonly #vlek = once(() => this.#endorsement('vlek', SigningKey.Vlek, [[Oid.cspId, ia5(PRODUCT)]]));
  readonly #certificates = once(() => {
    const { vcek, vlek } = this;
    return encodeCertificateTable([
      ...(vlek ? [[CertificateGuid.Vlek, vlek.certificate] as const] : []),
      ...(vcek ? [[CertificateGuid.Vcek, vcek.certificate] as const, [CertificateGuid.Ask, this.ask] as const, [CertificateGuid.Ark, this.ark] as const] : []),
    ]);
  });

  #endorsement(name: 'vcek' | 'vlek', signingKey: SigningKey, extensions: Extensions): EndorsementKey {
    // The key belongs to this TCB: another version has another key.
    const key = keyPairOf(derive(this.config.seed, `${name} key`, KEY_SEED_BYTES, this.tcb));
    const request = { commonName: `vmplanes simulated ${name.toUpperCase()}`, key, serial: this.#serial(name), isAuthority: false, extensions: [...tcbExtensions(this.config), ...extensions] };
    return { signingKey, key, certificate: certificateOf(request, this.#askIssuer()), root: derive(this.config.seed, `${name} root of derived keys`, 48) };
  }

  #key(name: string): KeyPair {
    return keyPairOf(derive(this.config.seed, `${name} key`, KEY_SEED_BYTES));
  }

  /** Positive and without leading zeroes. @spec RFC 5280, 4.1.2.2 */
  #serial(name: string): Uint8Array {
    const serial = derive(this.config.seed, `${name} serial`, 16, this.tcb);
    serial[0] = (serial[0]! & 0x7f) | 0x40;
    return serial;
  }
}
