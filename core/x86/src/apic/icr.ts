/** How a message asks to be delivered. @spec SDM 3A §10.5.1, §10.6.1 */
export const DeliveryMode = { fixed: 0, lowestPriority: 1, smi: 2, reserved: 3, nmi: 4, init: 5, startUp: 6, extInt: 7 } as const;
export type DeliveryMode = (typeof DeliveryMode)[keyof typeof DeliveryMode];

/** Destination shorthands of the interrupt command register. @spec SDM 3A §10.6.1 */
export const Shorthand = { none: 0, self: 1, all: 2, allButSelf: 3 } as const;
export type Shorthand = (typeof Shorthand)[keyof typeof Shorthand];

/** What an APIC did with a message: it did not respond, it latched it, or the latch was set already. */
export const AcceptResult = { refused: 0, accepted: 1, merged: 2 } as const;
export type AcceptResult = (typeof AcceptResult)[keyof typeof AcceptResult];

/** Timer modes of the LVT timer entry. @spec SDM 3A §10.5.4 table 10-2 */
export const TimerMode = { oneShot: 0, periodic: 1, tscDeadline: 2, reserved: 3 } as const;
export type TimerMode = (typeof TimerMode)[keyof typeof TimerMode];

/** Vector of the low word of the interrupt command register. */
export const icrVector = (low: number): number => low & 0xff;
/** Delivery mode of the low word. */
export const icrMode = (low: number): DeliveryMode => ((low >>> 8) & 7) as DeliveryMode;
/** True for a logical destination. */
export const icrIsLogical = (low: number): boolean => (low & (1 << 11)) !== 0;
/** Level flag: assert (true) or de-assert; only INIT looks at it. */
export const icrIsAssert = (low: number): boolean => (low & (1 << 14)) !== 0;
/** Trigger flag: level (true) or edge; only INIT looks at it. */
export const icrIsLevel = (low: number): boolean => (low & (1 << 15)) !== 0;
/** Destination shorthand of the low word. */
export const icrShorthand = (low: number): Shorthand => ((low >>> 18) & 3) as Shorthand;

/** True for the INIT level de-assert message, which no processor since the P6 acts on. @spec SDM 3A §10.6.1 */
export const icrIsInitDeassert = (low: number): boolean => icrMode(low) === DeliveryMode.init && icrIsLevel(low) && !icrIsAssert(low);

/** The fields of a low word of the interrupt command register. */
export interface IcrFields {
  readonly vector: number;
  readonly mode: DeliveryMode;
  readonly logical?: boolean;
  readonly level?: boolean;
  readonly assert?: boolean;
  readonly shorthand?: Shorthand;
}

/** Builds the low word of an interrupt command. @spec SDM 3A §10.6.1 figure 10-12 */
export const encodeIcr = (f: IcrFields): number =>
  (f.vector & 0xff) | (f.mode << 8) | (f.logical ? 1 << 11 : 0) | (f.assert === false ? 0 : 1 << 14) | (f.level ? 1 << 15 : 0) | ((f.shorthand ?? 0) << 18);
