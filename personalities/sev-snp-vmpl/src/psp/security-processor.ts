import { FirmwareStatus, LAUNCH_VMSA_GPA, LaunchPageType } from '@vmplanes/abi-sev-snp';
import type { PlainState } from '@vmplanes/engine';
import { extendDigest } from '../launch/digest.ts';
import type { GuestRequests } from '../ports.ts';
import { MESSAGE_PAGE_BYTES, openMessage, sealMessage } from './envelope.ts';
import { type GuestContext, GuestState, newGuestContext, restoreGuestContext, saveGuestContext } from './guest-context.ts';
import { Platform, type PlatformConfig } from './platform.ts';
import type { CpuidModel, FirmwareSettings, FirmwareView } from './ports.ts';
import { answerRequest } from './requests.ts';

/**
 * The simulated security processor of one machine with its one guest: answers guest messages. All its secrets follow from the seed of the platform, which is input of the
 * host; it has no key that a manufacturer vouches for.
 * @spec SNP ABI, guest messages
 */
export class SecurityProcessor implements GuestRequests, FirmwareView {
  readonly stateName = 'security-processor';
  readonly platform: Platform;
  readonly guest: GuestContext;
  readonly settings: FirmwareSettings;
  readonly cpuid: CpuidModel;
  /** As the guest has them: whoever forgets these does not change what the firmware knows. */
  readonly keys: readonly Uint8Array[];
  /** By VP; follows from the configuration. */
  readonly #starts: (Uint8Array | undefined)[] = [];

  constructor(config: PlatformConfig, settings: FirmwareSettings, cpuid: CpuidModel) {
    this.platform = new Platform(config);
    this.guest = newGuestContext(config.seed);
    this.keys = this.guest.keys.map((key) => key.slice());
    this.settings = settings;
    this.cpuid = cpuid;
  }

  get certificates(): Uint8Array {
    return this.platform.certificates;
  }

  /**
   * Answers one request. The sequence number of its key advances only with a response; a response may itself carry an error.
   * @param request - 4096 bytes, copied from the guest.
   * @param response - 4096 bytes; filled with a message on success, untouched otherwise.
   */
  message(request: Uint8Array, response: Uint8Array): number {
    const { guest } = this;
    if (guest.state !== GuestState.Running) return FirmwareStatus.InvalidGuestState;
    if (request.length < MESSAGE_PAGE_BYTES || response.length < MESSAGE_PAGE_BYTES) throw new RangeError(`a message takes ${MESSAGE_PAGE_BYTES} bytes, not ${Math.min(request.length, response.length)}`);
    const opened = openMessage(request, guest.keys, guest.sequences);
    if (typeof opened === 'number') return opened;
    const { type, version, vmpck, sequence } = opened;
    const payload = answerRequest(this, type, version, opened.payload, vmpck);
    if (typeof payload === 'number') return payload;
    guest.sequences[vmpck] = sequence + 1n;
    sealMessage(response, guest.keys[vmpck]!, { type: type + 1, version, vmpck, sequence: sequence + 1n, payload });
    return FirmwareStatus.Success;
  }

  /** The host starts a VP of a guest without a boot image from this VMSA: the launch measures them in the order of VPs. */
  startsFrom(vp: number, vmsa: Uint8Array): void {
    this.#starts[vp] = vmsa.slice();
  }

  /** A guest without a boot image runs as after a launch of nothing but its VMSAs. @returns null, or why it must not run. */
  entering(): string | null {
    const { guest, settings } = this;
    if (guest.state === GuestState.Running) return null;
    if (guest.state === GuestState.Launching) return 'launch-not-finished';
    guest.policy = settings.policy;
    guest.hostData = settings.hostData.slice();
    for (const contents of this.#starts) if (contents) guest.digest = extendDigest(guest.digest, { type: LaunchPageType.Vmsa, gpa: LAUNCH_VMSA_GPA, contents, perms: [0, 0, 0] });
    guest.state = GuestState.Running;
    return null;
  }

  save(): PlainState {
    return saveGuestContext(this.guest);
  }
  restore(state: PlainState): void {
    restoreGuestContext(this.guest, state);
    this.keys.forEach((key, vmpl) => key.set(this.guest.keys[vmpl]!));
  }
}
