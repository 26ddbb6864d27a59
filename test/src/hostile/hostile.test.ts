import { hostileGuests } from './guests.ts';

hostileGuests(15);
