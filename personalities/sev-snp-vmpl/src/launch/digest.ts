import { isContentMeasured, LAUNCH_DIGEST_BYTES, type LaunchPageType, PageInfo } from '@vmplanes/abi-sev-snp';
import { createHash } from 'node:crypto';

/** Permission masks of VMPL 1, 2 and 3 at a page. */
export type LaunchPermissions = readonly [vmpl1: number, vmpl2: number, vmpl3: number];

/** What one page adds to the digest. */
export interface MeasuredPage {
  readonly type: LaunchPageType;
  /** Guest physical address, up to 48 bits used. */
  readonly gpa: number;
  /** 4096 bytes; looked at only where the type measures contents. */
  readonly contents: Uint8Array;
  readonly perms: LaunchPermissions;
}

const sha384 = (data: Uint8Array): Uint8Array => new Uint8Array(createHash('sha384').update(data).digest());
const NOT_MEASURED = new Uint8Array(LAUNCH_DIGEST_BYTES);

/** The launch digest after one more page. @spec SNP ABI, SNP_LAUNCH_UPDATE, PAGE_INFO */
export function extendDigest(digest: Uint8Array, { type, gpa, contents, perms: [vmpl1Perms, vmpl2Perms, vmpl3Perms] }: MeasuredPage): Uint8Array {
  const info = new Uint8Array(PageInfo.size);
  PageInfo.write(new DataView(info.buffer), 0, {
    digestCurrent: digest, contents: isContentMeasured(type) ? sha384(contents) : NOT_MEASURED, length: PageInfo.size, pageType: type, imi: 0, vmpl3Perms, vmpl2Perms, vmpl1Perms, gpa: BigInt(gpa),
  });
  return sha384(info);
}
