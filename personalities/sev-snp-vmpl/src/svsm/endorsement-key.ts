/** Numbers of TPM commands that the provider itself sends. @spec TPM 2.0 Library part 2, TPM_CC, TPM_SU, TPM_RH, TPM_ALG */
const Tpm = { NoSessions: 0x8001, Sessions: 0x8002, CreatePrimary: 0x131, Startup: 0x144, FlushContext: 0x165, Clear: 0, Endorsement: 0x4000_000b, PasswordSession: 0x4000_0009, Rsa: 0x0001, Aes: 0x0006, Cfb: 0x0043, Sha256: 0x000b, Null: 0x0010 } as const;
/** A command before Startup. @spec TPM 2.0 Library part 2, TPM_RC_INITIALIZE */
export const TPM_RC_INITIALIZE = 0x100;
/** fixedTPM, fixedParent, sensitiveDataOrigin, adminWithPolicy, restricted, decrypt. @spec TCG EK Credential Profile 2.5, template L-1 */
const EK_ATTRIBUTES = 0x0003_00b2;
/** PolicySecret of the endorsement hierarchy. @spec TCG EK Credential Profile 2.5, B.3.3 */
const EK_POLICY = '837197674484b3f81a90cc8d46a5d724fd52d76e06520b64f2a1da1b331469aa';

/** Big-endian bytes of a command. */
class Writer {
  readonly #bytes: number[] = [];
  u8(value: number): this {
    this.#bytes.push(value & 0xff);
    return this;
  }
  u16(value: number): this {
    return this.u8(value >>> 8).u8(value);
  }
  u32(value: number): this {
    return this.u16(value >>> 16).u16(value & 0xffff);
  }
  bytes(bytes: Iterable<number>): this {
    this.#bytes.push(...bytes);
    return this;
  }
  /** A sized buffer. */
  sized(bytes: Uint8Array): this {
    return this.u16(bytes.length).bytes(bytes);
  }
  take(): Uint8Array {
    return Uint8Array.from(this.#bytes);
  }
}

const command = (tag: number, code: number, body: Uint8Array): Uint8Array => new Writer().u16(tag).u32(10 + body.length).u32(code).bytes(body).take();

/** TPMT_PUBLIC of the endorsement key: RSA 2048, SHA-256, AES-128-CFB. @spec TCG EK Credential Profile 2.5, template L-1 */
const template = (): Uint8Array =>
  new Writer()
    .u16(Tpm.Rsa).u16(Tpm.Sha256).u32(EK_ATTRIBUTES)
    .sized(Uint8Array.from(EK_POLICY.match(/../g)!, (b) => Number.parseInt(b, 16)))
    .u16(Tpm.Aes).u16(128).u16(Tpm.Cfb).u16(Tpm.Null).u16(2048).u32(0)
    .sized(new Uint8Array(256))
    .take();

/** TPM2_CreatePrimary of the endorsement key. @spec TPM 2.0 Library part 3, TPM2_CreatePrimary */
export const createEndorsementKey = (): Uint8Array =>
  command(
    Tpm.Sessions, Tpm.CreatePrimary,
    new Writer().u32(Tpm.Endorsement)
      // One empty password session.
      .u32(9).u32(Tpm.PasswordSession).u16(0).u8(0).u16(0)
      // No authorisation value, no data; the template; no outside information, no PCRs.
      .u16(4).u16(0).u16(0).sized(template()).u16(0).u32(0)
      .take(),
  );
/** TPM2_Startup(CLEAR). @spec TPM 2.0 Library part 3, TPM2_Startup */
export const startUp = (): Uint8Array => command(Tpm.NoSessions, Tpm.Startup, new Writer().u16(Tpm.Clear).take());
/** TPM2_FlushContext. @spec TPM 2.0 Library part 3, TPM2_FlushContext */
export const flushObject = (handle: number): Uint8Array => command(Tpm.NoSessions, Tpm.FlushContext, new Writer().u32(handle).take());

/** The response code of a response; -1 when it is too short to have one. */
export const responseCode = (response: Uint8Array): number => (response.length < 10 ? -1 : new DataView(response.buffer, response.byteOffset).getUint32(6));

/** Handle and TPMT_PUBLIC in the response to {@link createEndorsementKey}; null when there is none. */
export const createdKey = (response: Uint8Array): { readonly handle: number; readonly publicArea: Uint8Array } | null => {
  if (responseCode(response) !== 0 || response.length < 20) return null;
  const view = new DataView(response.buffer, response.byteOffset, response.length);
  const size = view.getUint16(18);
  return response.length < 20 + size ? null : { handle: view.getUint32(10), publicArea: response.slice(20, 20 + size) };
};
